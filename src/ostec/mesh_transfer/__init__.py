"""A texture from one mesh onto another; importing a folder called `transfer` would hide `ostec.transfer`."""
