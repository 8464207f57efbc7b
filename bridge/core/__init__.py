"""The pure core: what is played when, without a thread, a clock or I/O."""
