"""A texture from one mesh onto another. Not called `transfer`: importing it would hide the function `ostec.transfer`."""
