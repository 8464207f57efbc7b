"""Insert MuseBridge's latest answer at the edit cursor, on the selected track: a ReaScript for REAPER.

Installed by ``musebridge clip --to reaper``, which also writes the answer to the
file that this reads. It runs in REAPER's Python, so it imports nothing of MuseBridge.
"""

import json
import os

from reaper_python import *

CLIP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "musebridge-clip.json")


def insert():
    """Insert the clip's notes as one MIDI item, in the project's beats."""
    with open(CLIP, encoding="utf-8") as file:
        clip = json.load(file)
    track = RPR_GetSelectedTrack(0, 0)
    if not track or track.endswith("0x0000000000000000"):
        RPR_ShowMessageBox("Select a track first.", "MuseBridge", 0)
        return
    begin = RPR_TimeMap2_timeToQN(0, RPR_GetCursorPosition())
    RPR_Undo_BeginBlock()
    first, last = (RPR_TimeMap2_QNToTime(0, beat) for beat in (begin, begin + clip["length"]))
    made = RPR_CreateNewMIDIItemInProj(track, first, last, False)
    take = RPR_GetActiveTake(made[0] if isinstance(made, tuple) else made)
    for note in clip["notes"]:
        first, last = (
            RPR_MIDI_GetPPQPosFromProjQN(take, begin + beat) for beat in (note["start"], note["start"] + note["length"])
        )
        RPR_MIDI_InsertNote(take, False, False, first, last, 0, note["pitch"], note["velocity"], True)
    RPR_MIDI_Sort(take)
    RPR_Undo_EndBlock("Insert MuseBridge's answer", -1)
    RPR_UpdateArrange()


insert()
