"""Every error this package raises on purpose: what happened, in which file, and what to do about it."""

from __future__ import annotations


class OstecError(Exception):
    """Base of all errors below; catch this one to catch them all."""


class BadPhoto(OstecError):
    """The file is not a photo that can be read: missing, truncated, of an unknown format, or far too large."""


class NoFace(OstecError):
    """No face was found in the photo, or the face is too small or too hidden to be fitted."""


class BadGeometry(OstecError):
    """A mesh or a set of points that contradicts itself: wrong shapes, faces that name no vertex, coinciding points."""


class MissingWeights(OstecError):
    """A network's weight file is not on this machine."""


class BadWeights(OstecError):
    """A weight file is truncated, foreign, or not what its checksum promises."""


class CannotDownload(OstecError):
    """A file could not be had: no connection, a server that refuses or stalls, or bytes that are not the file's."""


class UnknownComponent(OstecError):
    """A part was asked for by a name that nobody registered."""


class BadSettings(OstecError):
    """A setting lies outside its range."""


class CannotWrite(OstecError):
    """An output could not be written: no permission, no space, or a file in a folder's place."""


class Cancelled(OstecError):
    """The caller's progress callback asked to stop."""
