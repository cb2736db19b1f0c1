"""`ostec bench`: how well hidden texels are completed, by protocols that any tool can be scored on."""
