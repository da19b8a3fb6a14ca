"""From a network's logits to label maps, one forward or many."""
