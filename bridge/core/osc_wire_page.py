"""What ``docs/osc.md`` says of the wire of notes by OSC; ``musebridge.bridge.ports.osc_wire`` reads and writes it."""

FROM_PEER = (
    (
        "hello",
        "version, id, t, ahead",
        "every 20 to 100 ms: 1, a number of this run of the peer, its clock, and how many ms ahead of its moment it "
        "wants each event (0 to 250). The first one begins",
    ),
    ("bye", "nothing", "the peer leaves"),
    ("note", "seq, t, channel, pitch, velocity", "channels are 1 to 16; velocity 0 ends"),
    ("control", "seq, t, channel, controller, value", "a controller"),
    ("bend", "seq, t, channel, value", "pitch bend, -8192 to 8191"),
    ("midi", "seq, t, byte, …", "any MIDI message of 1 to 3 bytes"),
    (
        "held",
        "seq, key, …",
        "all keys that are down behind message `seq`, as (channel - 1) · 128 + pitch. A key that the bridge has down "
        "and that is not here goes up: its end was lost. May be left out",
    ),
    (
        "transport",
        "seq, t, playing, bar, beat, bpm, bar_beats",
        "at `t` the song is `beat` quarter notes into bar `bar` (from 0), at `bpm` quarter notes a minute, `bar_beats` "
        "of them in a bar; at each change, and some ten times a second",
    ),
)
FROM_BRIDGE = (
    ("hello", "version, id", "every 30 ms. A new id is a new run of the bridge: its `seq` begins anew"),
    ("busy", "nothing", "somebody else plays by this port"),
    (
        "midi",
        "seq, due, wait, byte, …",
        "a MIDI message. It is due when the peer's clock says `due`, which is `wait` ms after it was sent; `due` is -1 "
        "where the peer has no clock",
    ),
    ("held", "seq, key, …", "behind each hello, as above: all keys that sound or will"),
    ("bye", "nothing", "the bridge ends"),
)
WIRE = """
## Notes by OSC

`musebridge serve --port osc` plays without any MIDI system. It listens to UDP on 127.0.0.1:9124
(`--port osc:HOST:PORT`). A *peer*, such as a plug-in in a DAW's track or a patch, sends from one socket and is answered
there. One peer plays at a time. What is said above stays where it is, at `--osc`.

Each datagram is one OSC message, in no bundle. Its numbers are `i` or `f`, whichever is handier: a 32-bit float holds
them all. Addresses begin with `/musebridge/wire/`.

- `seq` counts 0, 1, 2 … modulo 2^24, over all messages of one side that have it. For one key or one controller the
  newest holds: what comes late or twice changes nothing.
- `t` is the peer's clock in milliseconds modulo 16384, or -1 if it has none: then the moment of arrival counts.
- Who says nothing is lost. The bridge waits 500 ms for its peer, then lifts its keys and pedals and stops its song. A
  peer waits 140 ms for the bridge, then ends its notes. *Bye* means the same at once.
- The bridge's clock follows the peer's, by the fastest datagram of the last 2 s. So a moment that the peer named comes
  back as the same number, and a bar line is met to the sample.
- The end of a note is never due before its beginning. A peer that has passed an event's moment plays it at once.

### What a peer says

{from_peer}

### What the bridge says

{from_bridge}
"""
