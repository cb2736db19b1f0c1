"""Networks and face models. Each file may be slow to import; `components` imports them by name."""
