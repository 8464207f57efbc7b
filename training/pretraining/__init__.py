"""Phase 1: next-token training."""
