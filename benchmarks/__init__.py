"""What the performance claims rest on: each subject is measured beside a peer or a limit, in one run."""
