"""What runs inside other programs; none of it imports MuseBridge."""
