"""Container images of the product, its example and its testbed, made without a container engine or a registry."""
