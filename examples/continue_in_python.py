"""Continue a MIDI file from Python: python examples/continue_in_python.py SEED.mid OUT.mid"""

import sys

import numpy as np

from musebridge import midifile
from musebridge.bridge.app import preset
from musebridge.bridge.core.continuation import continue_piece
from musebridge.bridge.inference.engine import OnnxEngine

seed_file, out_file = sys.argv[1:]
call = preset.load("call")
seed = midifile.read(seed_file)
answer = continue_piece(
    OnnxEngine(call.model), seed, seconds=10.0, settings=call.settings, rng=np.random.default_rng(7)
)
midifile.write(out_file, {"seed": seed, "continuation": answer})
