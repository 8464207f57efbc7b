"""The program: threads, servers, journal, doctor and demo."""
