"""A texture from one mesh onto another. (A folder called `transfer` would hide the function `ostec.transfer`.)"""
