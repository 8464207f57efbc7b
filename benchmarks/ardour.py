"""The plug-in in a track of Ardour, headless: a phrase, an answer on the bar line, recorded, and what is left after it.

Ardour runs with its dummy driver. A phrase reaches the track with the plug-in by Ardour's own keyboard port; what
comes out of the track is recorded on another one. Then the transport starts, jumps and stops again and again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median

import mido

from musebridge.bridge.app.journal import tracks
from musebridge.errors import PortError
from musebridge.events import NoteOff, NoteOn

PHRASE = (60, 62, 64, 65, 67, 65, 64, 62)
_NOTES_PORT, _OSC_PORT = 19124, 19123
_START_S, _END_S = 120.0, 900.0
_RATE = 48_000
_BEAT = 24_000  # samples, at Ardour's 120 beats a minute
_TICK = 12.5  # samples: Ardour's recording knows 1,920 moments a beat
Onset = tuple[float, int]
"""Where a note begins, in samples, and its pitch."""
_SCRIPT = """
local UI = ARDOUR.TransportRequestSource.TRS_UI
local NO_GROUP = PBD.GroupControlDisposition.NoGroup
local backend = AudioEngine:set_backend("None (Dummy)", "", "")
backend:set_device_name("Silence")
backend:set_buffer_size(128)
local session = create_session("@FOLDER@/session", "session", 48000)
local midi = ARDOUR.DataType("midi")
local one = ARDOUR.ChanCount(midi, 1)

local function track(name)
  local made = session:new_midi_track(one, one, true, ARDOUR.PluginInfo(), nil, nil, 1, name, 0xffffffff,
    ARDOUR.TrackMode.Normal, true)
  for route in made:iter() do
    route:input():disconnect_all(nil)
    return route:to_track():to_midi_track()
  end
end

local played, answer = track("played"), track("answer")
local plugin = ARDOUR.LuaAPI.new_plugin(session, "https://musebridge.org/lv2/musebridge", ARDOUR.PluginType.LV2, "")
played:add_processor_by_index(plugin, 0, nil, true)
for control, value in pairs{[0] = 2, [4] = @NOTES@, [5] = @OSC@} do
  ARDOUR.LuaAPI.set_processor_param(plugin, control, value)
end
answer:input():midi(0):connect(played:output():midi(0):name())
local keyboard
local _, ports = AudioEngine:get_ports(midi, ARDOUR.PortList())
for port in ports[2]:iter() do
  if port:name():match("keyboard") then keyboard = port:to_asyncmidiport() end
end
played:input():midi(0):connect(keyboard:name())
played:monitoring_control():set_value(1, NO_GROUP)
answer:rec_enable_control():set_value(1, NO_GROUP)
sleep(2)

local function wait(samples)
  while session:transport_sample() < samples do ARDOUR.LuaAPI.usleep(5000) end
end

local parser = ARDOUR.RawMidiParser()
local function send(...)
  for _, byte in ipairs{...} do
    if parser:process_byte(byte) then keyboard:write(parser:midi_buffer(), parser:buffer_size(), 0) end
  end
end

session:goto_start(false)
sleep(1)
session:maybe_enable_record(true)
session:request_roll(UI)
for i, pitch in ipairs{@PHRASE@} do
  wait(i * 20000)
  send(0x90, pitch, 90)
  wait(i * 20000 + 12000)
  send(0x80, pitch, 64)
end
wait(48000 * 16)
session:request_stop(false, false, UI)
sleep(2)
session:disable_record(false, true)
session:save_state("", false, false, false, false, false)
answer:rec_enable_control():set_value(0, NO_GROUP)
for i = 1, @CYCLES@ do
  session:request_roll(UI)
  send(0x90, 60, 90, 0x80, 60, 64)
  ARDOUR.LuaAPI.usleep(15000)
  session:request_locate(12000 * (i % 64), false, ARDOUR.LocateTransportDisposition.RollIfAppropriate, UI)
  ARDOUR.LuaAPI.usleep(15000)
  session:request_stop(false, false, UI)
  ARDOUR.LuaAPI.usleep(10000)
end
sleep(2)
print("late", (ARDOUR.LuaAPI.get_processor_param(plugin, 7, true)))
print("done")
quit()
"""


def measure(plugin: Path, cycles: int) -> list[str]:
    """Play in Ardour; return what was found, a line each.

    Args:
        plugin: the folder ``musebridge.lv2``, as ``make plugin`` builds it.
        cycles: how often the transport starts, jumps and stops.

    Raises:
        PortError: Ardour or the plug-in is not there, or something did not hold.
    """
    ardour = next(filter(None, map(shutil.which, ("ardour7-lua", "ardour8-lua", "ardour9-lua"))), None)
    if not ardour:
        raise PortError("Ardour is not installed; install it (Debian: apt-get install ardour)")
    if not (plugin / "manifest.ttl").exists():
        raise PortError(f"no plug-in in {plugin}; build it with make plugin")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = folder / "play.lua"
        values = {"FOLDER": folder, "NOTES": _NOTES_PORT, "OSC": _OSC_PORT, "CYCLES": cycles}
        text = _SCRIPT.replace("@PHRASE@", ", ".join(map(str, PHRASE)))
        for key, value in values.items():
            text = text.replace(f"@{key}@", str(value))
        script.write_text(text)
        with _serving(folder / "log"):
            environment = {**os.environ, "LV2_PATH": f"{plugin.resolve().parent}:/usr/lib/lv2"}
            done = subprocess.run([ardour, script], env=environment, capture_output=True, text=True, timeout=_END_S)
        if "done" not in done.stdout:
            raise PortError(f"Ardour did not come to its end: {(done.stdout + done.stderr)[-500:]}")
        late = next(line for line in done.stdout.splitlines() if line.startswith("late")).split()[1]
        return [*_found(folder, cycles), f"{float(late):g} events reached the plug-in after their moment"]


@contextmanager
def _serving(log: Path) -> Iterator[None]:
    command = [sys.executable, "-u", "-m", "musebridge", "serve", "--mode", "bars", "--record", str(log)]
    command += ["--port", f"osc:127.0.0.1:{_NOTES_PORT}", "--osc", f"127.0.0.1:{_OSC_PORT}", "--seed", "1"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout
    try:
        if "listening" not in server.stdout.readline():
            raise PortError("the bridge does not start")
        yield
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=_START_S)


def _found(folder: Path, cycles: int) -> list[str]:
    recorded = next((folder / "session").rglob("*answer*.mid"), None)
    if recorded is None:
        raise PortError("Ardour recorded no answer")
    file, ticks, notes, open_keys = mido.MidiFile(recorded), 0, list[Onset](), set[int]()
    for message in mido.merge_tracks(file.tracks):
        ticks += message.time
        if message.type == "note_on" and message.velocity:
            notes.append((ticks / file.ticks_per_beat * _BEAT, message.note))
            open_keys.add(message.note)
        elif message.type in ("note_on", "note_off"):
            open_keys.discard(message.note)
    if not notes:
        raise PortError("Ardour recorded no answer")
    log = next((folder / "log").glob("*.jsonl"))
    sent = [timed.event for timed in tracks(log)["model"]]
    struck, ended = (sum(isinstance(event, kind) for event in sent) for kind in (NoteOn, NoteOff))
    return [
        f"the answer's first note is at beat {notes[0][0] / _BEAT:.4f} of the recording",
        *_spacing(apart(notes, _due(log))),
        f"{len(notes)} notes recorded; {struck} played by the bridge, {ended} ended, those of {cycles} cycles included",
        f"{len(open_keys)} notes left open in the recording, {struck - ended} by the bridge",
    ]


def apart(recorded: Sequence[Onset], due: Sequence[Onset]) -> list[float]:
    """Return by how many samples each note is recorded after it was due, in the order they were due.

    The two clocks begin anywhere. Notes of one moment may be recorded in another order than they were sent, so the
    first of a pitch belongs to the first of that pitch, and so on; what has no partner is left out.
    """
    waiting: dict[int, deque[float]] = {}
    for at, pitch in recorded:
        waiting.setdefault(pitch, deque()).append(at)
    return [waiting[pitch].popleft() - at for at, pitch in due if waiting.get(pitch)]


def _spacing(apart: Sequence[float]) -> list[str]:
    """Say how well notes keep their distance from the one before; both are rounded to Ardour's tick."""
    if not apart:
        raise PortError("Ardour recorded no note that the bridge played")
    moved = [abs(after - before) for before, after in pairwise(apart)] or [0.0]
    kept = sum(samples < _TICK + 0.5 for samples in moved)
    middle, lost_s = round(median(moved) / _TICK) * _TICK, (apart[0] - apart[-1]) / _RATE
    return [
        f"{kept} of {len(moved)} notes are as far after the one before as due, to Ardour's tick ({_TICK} samples)",
        f"the median note is {middle:g} samples off, the furthest {max(moved):.0f}",
        f"over the answer Ardour's clock fell {lost_s:.2f} s behind the computer's",
    ]


def _due(log: Path) -> list[Onset]:
    """Return when each note of the model was due, in samples."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    sent = [line for line in lines if line["kind"] == "sent" and line["owner"] == "model"]
    struck = [line for line in sent if line["bytes"][0] >> 4 == 9 and line["bytes"][2]]
    return [(line["due_s"] * _RATE, line["bytes"][1]) for line in struck]
