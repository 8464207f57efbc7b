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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import mido

from musebridge.bridge.app.journal import tracks
from musebridge.errors import PortError
from musebridge.events import NoteOff, NoteOn

PHRASE = (60, 62, 64, 65, 67, 65, 64, 62)
_NOTES_PORT, _OSC_PORT = 19124, 19123
_START_S, _END_S = 120.0, 900.0
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
    file, ticks, notes, open_keys = mido.MidiFile(recorded), 0, list[int](), set[int]()
    for message in mido.merge_tracks(file.tracks):
        ticks += message.time
        if message.type == "note_on" and message.velocity:
            notes.append(ticks)
            open_keys.add(message.note)
        elif message.type in ("note_on", "note_off"):
            open_keys.discard(message.note)
    log = next((folder / "log").glob("*.jsonl"))
    sent = [timed.event for timed in tracks(log)["model"]]
    struck, ended = (sum(isinstance(event, kind) for event in sent) for kind in (NoteOn, NoteOff))
    if not notes:
        raise PortError("Ardour recorded no answer")
    samples = 24_000 / file.ticks_per_beat  # at Ardour's 120 beats a minute
    due_s = _due_s(log)[: len(notes)]
    off = [
        (tick - notes[0]) * samples - (moment_s - due_s[0]) * 48_000
        for tick, moment_s in zip(notes, due_s, strict=False)
    ]
    return [
        f"the answer's first note is at beat {notes[0] / file.ticks_per_beat:.4f} of the recording",
        f"after it, notes are {median(map(abs, off)):.1f} samples from due (median), at most {max(map(abs, off)):.1f}",
        f"{len(notes)} notes recorded; {struck} played by the bridge, {ended} ended, those of {cycles} cycles included",
        f"{len(open_keys)} notes left open in the recording, {struck - ended} by the bridge",
    ]


def _due_s(log: Path) -> list[float]:
    """Return when each note of the model was due."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    sent = [line for line in lines if line["kind"] == "sent" and line["owner"] == "model"]
    return [line["due_s"] for line in sent if line["bytes"][0] >> 4 == 9 and line["bytes"][2]]
