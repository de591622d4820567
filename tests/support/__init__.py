"""What tests share: tiny worlds, naive references, workers that run on ranks, injected faults."""
