/* OSC messages of numbers and texts, to and from datagrams. No bundles. */
#ifndef MUSEBRIDGE_OSC_H
#define MUSEBRIDGE_OSC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define OSC_MOST 16384  /* bytes of a datagram: all keys held, five bytes each, and room */
#define OSC_VALUES 2052 /* numbers in one message */

typedef struct {
    char data[256];
    int size, is_whole;
} Osc;

typedef struct {
    const char *address;
    int count;
    double values[OSC_VALUES];
} OscReader;

static void osc_text(Osc *osc, const char *text) {
    int length = (int)strlen(text), padded = (length / 4 + 1) * 4;
    if (osc->size + padded > (int)sizeof osc->data) {
        osc->is_whole = 0;
        return;
    }
    memset(osc->data + osc->size, 0, (size_t)padded);
    memcpy(osc->data + osc->size, text, (size_t)length);
    osc->size += padded;
}

static void osc_begin(Osc *osc, const char *address, const char *tags) {
    osc->size = 0;
    osc->is_whole = 1;
    osc_text(osc, address);
    osc_text(osc, tags);
}

static void osc_int(Osc *osc, int32_t value) {
    if (osc->size + 4 > (int)sizeof osc->data) {
        osc->is_whole = 0;
        return;
    }
    for (int i = 0; i < 4; i++) osc->data[osc->size++] = (char)((uint32_t)value >> (24 - 8 * i) & 255);
}

static void osc_float(Osc *osc, float value) {
    int32_t bits;
    memcpy(&bits, &value, 4);
    osc_int(osc, bits);
}

/* Read a message whose values are all numbers; `data` has one byte more than `size`. Return whether it is one. */
static int osc_read(OscReader *osc, const char *data, int size) {
    int address = 0, tags, at;
    while (address < size && data[address]) address++;
    tags = (address / 4 + 1) * 4;
    if (size < 1 || data[0] != '/' || tags >= size || data[tags] != ',') return 0;
    for (at = tags; at < size && data[at]; at++) {}
    at = (at / 4 + 1) * 4;
    osc->address = data;
    osc->count = 0;
    for (int tag = tags + 1; tag < size && data[tag]; tag++, at += 4) {
        if (osc->count == OSC_VALUES || at + 4 > size) return 0;
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++) bits = bits << 8 | (uint8_t)data[at + i];
        float value;
        memcpy(&value, &bits, 4);
        if (data[tag] == 'i') osc->values[osc->count++] = (int32_t)bits;
        else if (data[tag] == 'f' && isfinite(value)) osc->values[osc->count++] = value;
        else return 0;
    }
    return 1;
}

#endif
