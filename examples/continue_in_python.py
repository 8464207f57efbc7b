"""Continue a MIDI file from Python: python examples/continue_in_python.py SEED.mid OUT.mid"""

import sys

import numpy as np

from musebridge.bridge.app import preset
from musebridge.bridge.core.continuation import continue_piece
from musebridge.bridge.inference.engine import OnnxEngine
from musebridge.smf import append
from musebridge.smf.piece import open_piece
from musebridge.smf.write import save

seed_file, out_file = sys.argv[1:]
call = preset.load("call")
seed = open_piece(seed_file)
answer = continue_piece(
    OnnxEngine(call.model),
    seed.events,
    seconds=10.0,
    settings=call.settings,
    rng=np.random.default_rng(7),
    begin_s=seed.end_s,
)
data, _ = append.continued(seed, answer, append.span_of_seconds(seed, 10.0))
save(out_file, data)
