"""Phase 2: fine-tuning against a discriminator."""
