/* MuseBridge in a track: an LV2 plug-in between the host and `musebridge serve --port osc`.
 *
 * run() neither allocates, locks nor calls the system. A helper thread owns the socket; two rings of
 * one writer and one reader lie between. What the bridge sends ahead of its moment waits here until
 * the block that holds its frame. The wire is docs/osc.md, "Notes by OSC".
 */
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <lv2/atom/atom.h>
#include <lv2/atom/forge.h>
#include <lv2/atom/util.h>
#include <lv2/core/lv2.h>
#include <lv2/midi/midi.h>
#include <lv2/time/time.h>
#include <lv2/urid/urid.h>

#include "osc.h"
#include "system.h"

#define PLUGIN_URI "https://musebridge.org/lv2/musebridge"
#define RING 1024u       /* messages between two turns of the helper, a power of two */
#define PENDING 1024     /* events that wait for their frame */
#define KEYS 2048        /* 16 channels of 128 keys */
#define ROUND_MS 16384.0 /* the wire's clock goes round after this */
#define HELLO_S 0.02
#define SONG_S 0.1
#define TICK_BEATS (1.5 / 960)
#define LOST_S 0.14
#define SPARE_MS 10.0 /* beside a period, what an event takes on its way at most */

enum { IN, OUT, MODE, HAND_OVER, TEMPERATURE, PANIC, NOTES_PORT, OSC_PORT, CONNECTED, LATE, PORTS };
static const char *const MODES[] = {"call", "duet", "bars", "manual"};

typedef enum { MIDI, HELLO, SONG, SET_MODE, SET_TEMPERATURE, TRIGGER_HAND_OVER, TRIGGER_PANIC, FLUSH } Kind;

typedef struct {
    Kind kind;
    double clock_ms; /* of the event, by the plug-in's clock; negative: now */
    uint8_t size, bytes[3];
    float values[5]; /* of a song: playing, bar, beat, bpm, beats of a bar; of a parameter: itself */
} Message;

typedef struct {
    Message items[RING];
    atomic_uint written, read;
} Ring;

typedef struct {
    int64_t frame;
    uint8_t size, bytes[3];
} Pending;

typedef struct {
    LV2_URID midi, position, object, blank, bar, bar_beat, bpm, beats, unit, speed, frame, tdouble, tfloat, tint, tlong;
} Urids;

typedef struct {
    /* the host's thread */
    void *ports[PORTS];
    Urids urids;
    LV2_Atom_Forge forge;
    double rate;
    int64_t now, next_hello, next_song; /* in frames since the beginning */
    uint32_t period;                    /* the longest block so far */
    Pending pending[PENDING];
    int waiting;
    int64_t latest[KEYS]; /* the frame of what was last planned for each key */
    uint8_t sounding[KEYS], pedals[16];
    float late, mode, temperature, hand_over, panic;
    int64_t song_frame; /* where the song was as follows */
    double bar, beat, bpm, bar_beats, speed;
    int was_connected;
    /* between the threads */
    Ring to_bridge, from_bridge;
    atomic_int stopping, connected, notes_port, osc_port, flush_asked;
    /* the helper thread */
    Thread thread;
    Socket socket;
    int32_t run, bridge_run, seq, newest[16 * 128 * 2 + 256];
    uint8_t known[16 * 128 * 2 + 256], down[KEYS];
    int32_t struck[KEYS];
    double heard_s;
} Plugin;

/* The rings */

static int put(Ring *ring, const Message *message) {
    unsigned written = atomic_load_explicit(&ring->written, memory_order_relaxed);
    if (written - atomic_load_explicit(&ring->read, memory_order_acquire) == RING) return 0;
    ring->items[written % RING] = *message;
    atomic_store_explicit(&ring->written, written + 1, memory_order_release);
    return 1;
}

static int take(Ring *ring, Message *message) {
    unsigned read = atomic_load_explicit(&ring->read, memory_order_relaxed);
    if (read == atomic_load_explicit(&ring->written, memory_order_acquire)) return 0;
    *message = ring->items[read % RING];
    atomic_store_explicit(&ring->read, read + 1, memory_order_release);
    return 1;
}

static int is_note(const uint8_t *bytes) { return (bytes[0] & 0xE0) == 0x80; }
static int strikes(const uint8_t *bytes) { return (bytes[0] & 0xF0) == 0x90 && bytes[2] > 0; }
static int key_of(const uint8_t *bytes) { return (bytes[0] & 15) * 128 + bytes[1]; }

/* The helper thread */

static void send_to(Plugin *self, int port, const Osc *osc) {
    if (osc->is_whole) socket_send(self->socket, port, osc->data, osc->size);
}

static int32_t next_seq(Plugin *self) { return self->seq = (self->seq + 1) % (1 << 24); }

static void send_command(Plugin *self, const Message *message) {
    Osc osc;
    int port = atomic_load(&self->osc_port);
    if (message->kind == SET_MODE) {
        osc_begin(&osc, "/musebridge/mode", ",s");
        osc_text(&osc, MODES[(int)message->values[0]]);
    } else if (message->kind == SET_TEMPERATURE) {
        osc_begin(&osc, "/musebridge/param/temperature", ",f");
        osc_float(&osc, message->values[0]);
    } else {
        osc_begin(&osc, message->kind == TRIGGER_PANIC ? "/musebridge/panic" : "/musebridge/handover", ",");
    }
    send_to(self, port, &osc);
}

static void send_message(Plugin *self, const Message *message) {
    Osc osc;
    switch (message->kind) {
    case HELLO:
        osc_begin(&osc, "/musebridge/wire/hello", ",iiff");
        osc_int(&osc, 1);
        osc_int(&osc, self->run);
        osc_float(&osc, (float)message->clock_ms);
        osc_float(&osc, message->values[0]);
        break;
    case MIDI:
        osc_begin(&osc, "/musebridge/wire/midi", message->size == 3 ? ",ifiii" : message->size == 2 ? ",ifii" : ",ifi");
        osc_int(&osc, next_seq(self));
        osc_float(&osc, (float)message->clock_ms);
        for (int i = 0; i < message->size; i++) osc_int(&osc, message->bytes[i]);
        break;
    case SONG:
        osc_begin(&osc, "/musebridge/wire/transport", ",ififfff");
        osc_int(&osc, next_seq(self));
        osc_float(&osc, (float)message->clock_ms);
        osc_int(&osc, message->values[0] != 0);
        for (int i = 1; i < 5; i++) osc_float(&osc, message->values[i]);
        break;
    default:
        send_command(self, message);
        return;
    }
    send_to(self, atomic_load(&self->notes_port), &osc);
}

static int is_newer(int32_t seq, int32_t than) {
    uint32_t ahead = (uint32_t)(seq - than) & 0xFFFFFFu;
    return ahead > 0 && ahead < 0x800000u;
}

/* Return what a message is about: the newer of two on one key or controller holds. */
static int slot_of(const uint8_t *bytes) {
    if (is_note(bytes)) return key_of(bytes);
    if ((bytes[0] & 0xF0) == 0xB0) return KEYS + key_of(bytes);
    return 2 * KEYS + bytes[0];
}

static void forget_bridge(Plugin *self) {
    Message flush = {.kind = FLUSH};
    put(&self->from_bridge, &flush);
    memset(self->known, 0, sizeof self->known);
    memset(self->down, 0, sizeof self->down);
    atomic_store(&self->connected, 0);
}

static void hear_midi(Plugin *self, const OscReader *osc) {
    Message message = {.kind = MIDI, .clock_ms = osc->values[1], .size = (uint8_t)(osc->count - 3)};
    int32_t seq = (int32_t)osc->values[0];
    for (int i = 0; i < message.size; i++) {
        if (!(osc->values[3 + i] >= 0 && osc->values[3 + i] < (i ? 128 : 256))) return;
        message.bytes[i] = (uint8_t)osc->values[3 + i];
    }
    int kind = message.bytes[0] & 0xF0;
    if (kind < 0x80 || (kind < 0xF0 && message.size != ((kind & 0xE0) == 0xC0 ? 2 : 3))) return;
    int slot = slot_of(message.bytes);
    if (kind < 0xF0 && self->known[slot] && !is_newer(seq, self->newest[slot])) return;
    self->known[slot] = 1;
    self->newest[slot] = seq;
    if (is_note(message.bytes)) {
        self->down[key_of(message.bytes)] = (uint8_t)strikes(message.bytes);
        self->struck[key_of(message.bytes)] = seq;
    }
    put(&self->from_bridge, &message);
}

/* End what sounds here and not for the bridge: the end of the note was lost. */
static void hear_held(Plugin *self, const OscReader *osc) {
    uint8_t held[KEYS] = {0};
    int32_t seq = (int32_t)osc->values[0];
    for (int i = 1; i < osc->count; i++)
        if (osc->values[i] >= 0 && osc->values[i] < KEYS) held[(int)osc->values[i]] = 1;
    for (int key = 0; key < KEYS; key++) {
        if (!self->down[key] || held[key] || is_newer(self->struck[key], seq)) continue;
        Message off = {.kind = MIDI, .clock_ms = -1, .size = 3, .bytes = {(uint8_t)(0x80 | key / 128), key % 128, 64}};
        if (put(&self->from_bridge, &off)) self->down[key] = 0;
    }
}

static void hear(Plugin *self, const char *data, int size, double now_s) {
    static const char root[] = "/musebridge/wire/";
    OscReader osc;
    if (!osc_read(&osc, data, size) || strncmp(osc.address, root, sizeof root - 1) != 0) return;
    const char *name = osc.address + sizeof root - 1;
    if (!strcmp(name, "hello") && osc.count == 2 && osc.values[0] == 1) {
        int32_t run = (int32_t)osc.values[1];
        if (atomic_load(&self->connected) && run != self->bridge_run) forget_bridge(self);
        self->bridge_run = run;
        self->heard_s = now_s;
        atomic_store(&self->connected, 1);
    } else if (!atomic_load(&self->connected)) {
        return;
    } else if (!strcmp(name, "midi") && osc.count >= 4 && osc.count <= 6) {
        hear_midi(self, &osc);
    } else if (!strcmp(name, "held") && osc.count >= 1) {
        hear_held(self, &osc);
    } else if (!strcmp(name, "bye")) {
        forget_bridge(self);
    }
}

static THREAD_RESULT help(void *instance) {
    Plugin *self = instance;
    char data[OSC_MOST + 1];
    while (!atomic_load(&self->stopping)) {
        Message message;
        while (take(&self->to_bridge, &message)) send_message(self, &message);
        int port = atomic_load(&self->notes_port);
        for (int size; (size = socket_receive(self->socket, port, data, OSC_MOST)) >= 0;)
            hear(self, data, size, now_seconds());
        if (atomic_load(&self->connected) && now_seconds() - self->heard_s > LOST_S) forget_bridge(self);
        socket_wait(self->socket, 500);
    }
    Osc osc;
    osc_begin(&osc, "/musebridge/wire/bye", ",");
    send_to(self, atomic_load(&self->notes_port), &osc);
    return 0;
}

/* The host's thread: what goes to the bridge */

static double clock_ms(const Plugin *self, int64_t frame) { return fmod((double)frame * 1000.0 / self->rate, ROUND_MS); }

static void tell_song(Plugin *self, int64_t frame) {
    double beat = self->beat + (double)(frame - self->song_frame) / self->rate * self->bpm / 60 * self->speed;
    double bars = floor(beat / self->bar_beats);
    Message song = {.kind = SONG, .clock_ms = clock_ms(self, frame)};
    song.values[0] = self->speed > 0;
    song.values[1] = (float)(self->bar + bars);
    song.values[2] = (float)(beat - bars * self->bar_beats);
    song.values[3] = (float)self->bpm;
    song.values[4] = (float)self->bar_beats;
    put(&self->to_bridge, &song);
    self->next_song = frame + (int64_t)(SONG_S * self->rate);
}

static int number(const Plugin *self, const LV2_Atom *atom, double *value) {
    if (!atom) return 0;
    if (atom->type == self->urids.tdouble) *value = ((const LV2_Atom_Double *)atom)->body;
    else if (atom->type == self->urids.tfloat) *value = ((const LV2_Atom_Float *)atom)->body;
    else if (atom->type == self->urids.tint) *value = ((const LV2_Atom_Int *)atom)->body;
    else if (atom->type == self->urids.tlong) *value = (double)((const LV2_Atom_Long *)atom)->body;
    else return 0;
    return isfinite(*value);
}

static void flush(Plugin *self, int64_t frame);

static void hear_position(Plugin *self, const LV2_Atom_Object *object, int64_t frame) {
    const Urids *urids = &self->urids;
    const LV2_Atom *bar = 0, *bar_beat = 0, *bpm = 0, *beats = 0, *unit = 0, *speed = 0, *song = 0;
    lv2_atom_object_get(object, urids->bar, &bar, urids->bar_beat, &bar_beat, urids->bpm, &bpm, urids->beats, &beats,
                        urids->unit, &unit, urids->speed, &speed, urids->frame, &song, 0);
    double per_beat = 1, value, was = self->speed;
    if (number(self, unit, &value) && value > 0) per_beat = 4 / value;
    if (number(self, beats, &value) && value > 0) self->bar_beats = value * per_beat;
    if (number(self, bpm, &value) && value > 0) self->bpm = value * per_beat;
    if (number(self, speed, &value)) self->speed = value;
    if (number(self, bar, &value)) self->bar = value;
    if (number(self, bar_beat, &value)) self->beat = value * per_beat;
    /* Hosts round beats to their ticks. Where the song has one tempo, its frame says them exactly. */
    if (number(self, song, &value)) {
        double exact = value / self->rate * self->bpm / 60 - self->bar * self->bar_beats;
        if (fabs(exact - self->beat) < TICK_BEATS) self->beat = exact;
    }
    self->song_frame = frame;
    if (was > 0 && self->speed <= 0) flush(self, frame);
    tell_song(self, frame);
}

static void hear_host(Plugin *self) {
    LV2_ATOM_SEQUENCE_FOREACH((const LV2_Atom_Sequence *)self->ports[IN], event) {
        int64_t frame = self->now + event->time.frames;
        if (event->body.type == self->urids.midi && event->body.size >= 1 && event->body.size <= 3) {
            Message message = {.kind = MIDI, .clock_ms = clock_ms(self, frame), .size = (uint8_t)event->body.size};
            memcpy(message.bytes, event + 1, event->body.size);
            put(&self->to_bridge, &message);
        } else if (event->body.type == self->urids.object || event->body.type == self->urids.blank) {
            const LV2_Atom_Object *object = (const LV2_Atom_Object *)&event->body;
            if (object->body.otype == self->urids.position) hear_position(self, object, frame);
        }
    }
}

static float control(const Plugin *self, int port) { return self->ports[port] ? *(const float *)self->ports[port] : 0; }

static void tell(Plugin *self, Kind kind, float value) {
    Message message = {.kind = kind, .values = {value}};
    put(&self->to_bridge, &message);
}

/* Tell what the controls changed; 0 and -1 leave temperature and mode as the bridge was started. */
static void tell_controls(Plugin *self) {
    int connected = atomic_load(&self->connected), is_new = connected && !self->was_connected;
    float mode = roundf(control(self, MODE)), temperature = control(self, TEMPERATURE);
    float hand_over = control(self, HAND_OVER), panic = control(self, PANIC);
    if ((mode != self->mode || is_new) && mode >= 0 && mode < 4) tell(self, SET_MODE, mode);
    if ((temperature != self->temperature || is_new) && temperature > 0) tell(self, SET_TEMPERATURE, temperature);
    if (hand_over >= 0.5f && self->hand_over < 0.5f) tell(self, TRIGGER_HAND_OVER, 1);
    if (panic >= 0.5f && self->panic < 0.5f) {
        tell(self, TRIGGER_PANIC, 1);
        flush(self, self->now);
    }
    self->mode = mode, self->temperature = temperature, self->hand_over = hand_over, self->panic = panic;
    self->was_connected = connected;
}

/* The host's thread: what comes from the bridge */

/* Let an event wait for its frame; of two on one frame the first that came is the first to go. */
static void plan(Plugin *self, int64_t frame, const uint8_t *bytes, uint8_t size) {
    if (self->waiting == PENDING) return;
    int at = self->waiting++;
    for (; at > 0 && self->pending[at - 1].frame > frame; at--) self->pending[at] = self->pending[at - 1];
    self->pending[at] = (Pending){.frame = frame, .size = size};
    memcpy(self->pending[at].bytes, bytes, size);
}

/* Drop what waits, and end what sounds. */
static void flush(Plugin *self, int64_t frame) {
    self->waiting = 0;
    for (int key = 0; key < KEYS; key++) {
        self->latest[key] = 0;
        uint8_t off[3] = {(uint8_t)(0x80 | key / 128), (uint8_t)(key % 128), 64};
        if (self->sounding[key]) plan(self, frame, off, 3);
    }
    for (int channel = 0; channel < 16; channel++) {
        uint8_t up[3] = {(uint8_t)(0xB0 | channel), 64, 0};
        if (self->pedals[channel]) plan(self, frame, up, 3);
    }
}

/* Return the frame of an event: its own, or a period later where it went through the bridge and its block is over. */
static int64_t frame_of(Plugin *self, const Message *message) {
    if (message->clock_ms < 0) return self->now;
    double apart_ms = fmod(message->clock_ms - clock_ms(self, self->now) + 1.5 * ROUND_MS, ROUND_MS) - ROUND_MS / 2;
    int64_t frame = self->now + llround(apart_ms * self->rate / 1000);
    if (frame < self->now) frame += self->period;
    if (frame < self->now) self->late++;
    return frame < self->now || frame > self->now + (int64_t)self->rate ? self->now : frame;
}

static void hear_bridge(Plugin *self) {
    Message message;
    while (take(&self->from_bridge, &message)) {
        if (message.kind == FLUSH) {
            flush(self, self->now);
            continue;
        }
        int64_t frame = frame_of(self, &message);
        if (is_note(message.bytes)) {
            int64_t *latest = &self->latest[key_of(message.bytes)];
            *latest = frame = frame > *latest ? frame : *latest;
        }
        plan(self, frame, message.bytes, message.size);
    }
}

static void play(Plugin *self, int64_t end) {
    LV2_Atom_Forge_Frame sequence;
    LV2_Atom_Sequence *out = self->ports[OUT];
    lv2_atom_forge_set_buffer(&self->forge, (uint8_t *)out, out->atom.size);
    lv2_atom_forge_sequence_head(&self->forge, &sequence, 0);
    int done = 0;
    for (; done < self->waiting && self->pending[done].frame < end; done++) {
        const Pending *event = &self->pending[done];
        if (self->forge.offset + 32 > self->forge.size) break; /* the host's buffer is full: the rest comes next */
        lv2_atom_forge_frame_time(&self->forge, event->frame > self->now ? event->frame - self->now : 0);
        lv2_atom_forge_atom(&self->forge, event->size, self->urids.midi);
        lv2_atom_forge_write(&self->forge, event->bytes, event->size);
        if (is_note(event->bytes)) self->sounding[key_of(event->bytes)] = (uint8_t)strikes(event->bytes);
        if ((event->bytes[0] & 0xF0) == 0xB0 && event->bytes[1] == 64)
            self->pedals[event->bytes[0] & 15] = event->bytes[2] > 0;
    }
    self->waiting -= done;
    memmove(self->pending, self->pending + done, (size_t)self->waiting * sizeof *self->pending);
    lv2_atom_forge_pop(&self->forge, &sequence);
}

static void run(LV2_Handle instance, uint32_t frames) {
    Plugin *self = instance;
    if (frames > self->period) self->period = frames;
    if (control(self, NOTES_PORT) >= 1) atomic_store(&self->notes_port, (int)control(self, NOTES_PORT));
    if (control(self, OSC_PORT) >= 1) atomic_store(&self->osc_port, (int)control(self, OSC_PORT));
    if (self->now >= self->next_hello) {
        Message hello = {.kind = HELLO, .clock_ms = clock_ms(self, self->now)};
        hello.values[0] = (float)fmin(250, SPARE_MS + 2000.0 * self->period / self->rate);
        put(&self->to_bridge, &hello);
        self->next_hello = self->now + (int64_t)(HELLO_S * self->rate);
    }
    if (atomic_exchange(&self->flush_asked, 0)) flush(self, self->now);
    hear_bridge(self);
    hear_host(self);
    tell_controls(self);
    if (self->speed > 0 && self->now >= self->next_song) tell_song(self, self->now);
    play(self, self->now + frames);
    if (self->ports[CONNECTED]) *(float *)self->ports[CONNECTED] = (float)atomic_load(&self->connected);
    if (self->ports[LATE]) *(float *)self->ports[LATE] = self->late;
    self->now += frames;
}

/* Beginning and end */

static void find_urids(Plugin *self, LV2_URID_Map *map) {
    const struct { LV2_URID *urid; const char *uri; } names[] = {
        {&self->urids.midi, LV2_MIDI__MidiEvent},      {&self->urids.position, LV2_TIME__Position},
        {&self->urids.object, LV2_ATOM__Object},       {&self->urids.blank, LV2_ATOM__Blank},
        {&self->urids.bar, LV2_TIME__bar},             {&self->urids.bar_beat, LV2_TIME__barBeat},
        {&self->urids.bpm, LV2_TIME__beatsPerMinute},  {&self->urids.beats, LV2_TIME__beatsPerBar},
        {&self->urids.frame, LV2_TIME__frame},
        {&self->urids.unit, LV2_TIME__beatUnit},       {&self->urids.speed, LV2_TIME__speed},
        {&self->urids.tdouble, LV2_ATOM__Double},      {&self->urids.tfloat, LV2_ATOM__Float},
        {&self->urids.tint, LV2_ATOM__Int},            {&self->urids.tlong, LV2_ATOM__Long},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) *names[i].urid = map->map(map->handle, names[i].uri);
}

static LV2_Handle instantiate(const LV2_Descriptor *descriptor, double rate, const char *path,
                              const LV2_Feature *const *features) {
    (void)descriptor, (void)path;
    LV2_URID_Map *map = 0;
    for (; *features; features++)
        if (!strcmp((*features)->URI, LV2_URID__map)) map = (*features)->data;
    Plugin *self = map ? calloc(1, sizeof *self) : 0;
    if (!self) return 0;
    find_urids(self, map);
    lv2_atom_forge_init(&self->forge, map);
    self->rate = rate;
    self->bpm = 120, self->bar_beats = 4, self->mode = -1;
    atomic_store(&self->notes_port, 9124);
    atomic_store(&self->osc_port, 9123);
    self->run = (int32_t)(((uint64_t)(now_seconds() * 1e6) ^ (uintptr_t)self >> 4) & 0x7FFFFF);
    if (socket_open(&self->socket)) {
        if (thread_start(&self->thread, help, self)) return self;
        socket_close(self->socket);
    }
    free(self);
    return 0;
}

static void connect_port(LV2_Handle instance, uint32_t port, void *data) {
    if (port < PORTS) ((Plugin *)instance)->ports[port] = data;
}

static void activate(LV2_Handle instance) { atomic_store(&((Plugin *)instance)->flush_asked, 1); }

static void cleanup(LV2_Handle instance) {
    Plugin *self = instance;
    atomic_store(&self->stopping, 1);
    thread_join(self->thread);
    socket_close(self->socket);
    free(self);
}

static const LV2_Descriptor descriptor = {PLUGIN_URI, instantiate, connect_port, activate, run, 0, cleanup, 0};

LV2_SYMBOL_EXPORT const LV2_Descriptor *lv2_descriptor(uint32_t index) { return index ? 0 : &descriptor; }
