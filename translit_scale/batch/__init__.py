"""Makes the packed, masked micro-batches of a rank from a step number: order → pairs → masks → flat tensors."""
