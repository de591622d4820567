"""From an integer t to the packed, masked micro-batches of a rank: order → pairs → masks → flat tensors."""
