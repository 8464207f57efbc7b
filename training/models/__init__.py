"""The models: generators, discriminator, critic, what they are told of tokens, and their checkpoints."""
