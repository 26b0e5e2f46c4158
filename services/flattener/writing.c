#include "writing.h"

#include <stdlib.h>
#include <string.h>

static bool has_room(Output *output, size_t more) {
    if (output->room - output->size >= more) return true;
    size_t room = output->size + more + output->room / 2 + 4096;
    char *data = realloc(output->data, room);
    if (!data) return false;
    output->data = data;
    output->room = room;
    return true;
}

/* What follows needs room to have been made before. */

static void put(Output *output, const char *data, size_t size) {
    memcpy(output->data + output->size, data, size);
    output->size += size;
}

static void put_byte(Output *output, char byte) { output->data[output->size++] = byte; }

#define PUT(output, literal) put(output, literal, sizeof(literal) - 1)

/* Find a cell; return false if it is null. */
static bool cell_at(const TextColumn *column, size_t row, Text *cell) {
    const ArrowArray *array = &column->array;
    const uint8_t *valid = array->buffers[0];
    size_t at = row + (size_t)array->offset;
    if (valid && !(valid[at / 8] >> at % 8 & 1)) return false;
    if (!column->views) {
        const int64_t *offsets = array->buffers[1];
        const char *data = array->buffers[2];
        *cell = (Text){data ? data + offsets[at] : "", (size_t)(offsets[at + 1] - offsets[at])};
        return true;
    }
    /* https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout */
    const char *view = (const char *)array->buffers[1] + 16 * at;
    uint32_t size, buffer, start; /* polars has texts, and buffers of them, beyond 2 GiB */
    memcpy(&size, view, 4);
    if (size <= 12) {
        *cell = (Text){view + 4, (size_t)size};
        return true;
    }
    memcpy(&buffer, view + 8, 4);
    memcpy(&start, view + 12, 4);
    *cell = (Text){(const char *)array->buffers[2 + buffer] + start, (size_t)size};
    return true;
}

/* CSV. */

enum { COPIED, QUOTED = 1, DOUBLED = 2, MARKUP = 4, LOST = 8, UNDERSCORE = 16 };

/* What is to be done about a byte, in CSV and in XML. 0xEF begins U+FFFE and U+FFFF, which XML cannot have. */
static const uint8_t kinds[256] = {
    ['"'] = QUOTED | DOUBLED, [','] = QUOTED, ['\n'] = QUOTED, ['\r'] = QUOTED | MARKUP,
    ['&'] = MARKUP, ['<'] = MARKUP, ['>'] = MARKUP, ['_'] = UNDERSCORE, [0xEF] = LOST,
    [0] = LOST, [1] = LOST, [2] = LOST, [3] = LOST, [4] = LOST, [5] = LOST, [6] = LOST, [7] = LOST, [8] = LOST,
    [11] = LOST, [12] = LOST, [14] = LOST, [15] = LOST, [16] = LOST, [17] = LOST, [18] = LOST, [19] = LOST, [20] = LOST,
    [21] = LOST, [22] = LOST, [23] = LOST, [24] = LOST, [25] = LOST, [26] = LOST, [27] = LOST, [28] = LOST, [29] = LOST,
    [30] = LOST, [31] = LOST,
};

static int kinds_of(Text text) {
    int found = 0;
    for (size_t at = 0; at < text.size; at++) found |= kinds[(unsigned char)text.data[at]];
    return found;
}

static bool is_digit(Text text, size_t at) { return at < text.size && text.data[at] >= '0' && text.data[at] <= '9'; }

static bool is_number(Text text) {
    size_t at = 0, digits = 0;
    if (at < text.size && (text.data[at] == '+' || text.data[at] == '-')) at++;
    for (; is_digit(text, at); at++) digits++;
    if (at < text.size && text.data[at] == '.') {
        for (at++; is_digit(text, at); at++) digits++;
    }
    if (!digits) return false;
    if (at < text.size && (text.data[at] == 'e' || text.data[at] == 'E')) {
        at++;
        if (at < text.size && (text.data[at] == '+' || text.data[at] == '-')) at++;
        if (!is_digit(text, at)) return false;
        while (is_digit(text, at)) at++;
    }
    return at == text.size;
}

static bool is_formula(Text text) {
    return text.size && strchr("=+-@\t\r", text.data[0]) && text.data[0] && !is_number(text);
}

bool write_csv(Output *output, const TextColumn *columns, size_t count, bool guard) {
    size_t rows = count ? (size_t)columns->array.length : 0;
    for (size_t row = 0; row < rows; row++) {
        for (size_t number = 0; number < count; number++) {
            Text cell;
            bool any = cell_at(&columns[number], row, &cell);
            if (!has_room(output, (any ? 2 * cell.size : 0) + 4)) return false;
            if (number) put_byte(output, ',');
            if (!any) continue;
            int found = kinds_of(cell);
            bool quoted = found & QUOTED || !cell.size;
            if (quoted) put_byte(output, '"');
            if (guard && is_formula(cell)) put_byte(output, '\'');
            if (found & DOUBLED) {
                for (size_t at = 0; at < cell.size; at++) {
                    if (cell.data[at] == '"') put_byte(output, '"');
                    put_byte(output, cell.data[at]);
                }
            } else {
                put(output, cell.data, cell.size);
            }
            if (quoted) put_byte(output, '"');
        }
        if (!has_room(output, 1)) return false;
        put_byte(output, '\n');
    }
    return true;
}

/* Sheets. */

static bool is_lost(Text text, size_t at, size_t *size) {
    unsigned char byte = (unsigned char)text.data[at];
    *size = 1;
    if (byte != 0xEF || text.size - at < 3) return byte != 0xEF && kinds[byte] & LOST;
    *size = 3;
    return (unsigned char)text.data[at + 1] == 0xBF && (unsigned char)text.data[at + 2] >= 0xBE;
}

static bool is_hex(char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* Whether Excel would read a character's number here: _x0041_. */
static bool is_escape(Text text, size_t at) {
    if (text.size - at < 7 || text.data[at + 1] != 'x' || text.data[at + 6] != '_') return false;
    for (size_t digit = 2; digit < 6; digit++) {
        if (!is_hex(text.data[at + digit])) return false;
    }
    return true;
}

static void put_markup(Output *output, Text text) {
    for (size_t at = 0; at < text.size; at++) {
        switch (text.data[at]) {
        case '&': PUT(output, "&amp;"); break;
        case '<': PUT(output, "&lt;"); break;
        case '>': PUT(output, "&gt;"); break;
        case '\r': PUT(output, "_x000D_"); break;
        case '_':
            if (is_escape(text, at)) {
                PUT(output, "_x005F");
                put(output, text.data + at, 7);
                at += 6;
                break;
            } /* fall through */
        default: put_byte(output, text.data[at]);
        }
    }
}

/* Return a text without characters that XML cannot have, in what is last of the output's room. */
static Text without_lost(Output *output, Text text) {
    char *copy = output->data + output->room - text.size;
    size_t length = 0, size;
    for (size_t at = 0; at < text.size; at += size) {
        if (is_lost(text, at, &size)) continue;
        memcpy(copy + length, text.data + at, size);
        length += size;
    }
    return (Text){copy, length};
}

static void put_text(Output *output, Text text) {
    int found = kinds_of(text);
    bool spaced = white_start(text) || white_end(text);
    if (found & LOST) text = without_lost(output, text);
    if (!text.size) {
        PUT(output, "<c/>");
        return;
    }
    if (spaced) {
        PUT(output, "<c t=\"inlineStr\"><is><t xml:space=\"preserve\">");
    } else {
        PUT(output, "<c t=\"inlineStr\"><is><t>");
    }
    if (found & (MARKUP | UNDERSCORE)) {
        put_markup(output, text);
    } else {
        put(output, text.data, text.size);
    }
    PUT(output, "</t></is></c>");
}

bool write_sheet(Output *output, const TextColumn *columns, size_t count, size_t longest, bool *too_long) {
    size_t rows = count ? (size_t)columns->array.length : 0;
    *too_long = false;
    for (size_t row = 0; row < rows; row++) {
        if (!has_room(output, 16)) return false;
        PUT(output, "<row>");
        for (size_t number = 0; number < count; number++) {
            Text cell;
            bool any = cell_at(&columns[number], row, &cell);
            /* A byte becomes seven at most, and once a copy; and what is around it. */
            if (!has_room(output, (any ? 8 * cell.size : 0) + 80)) return false;
            put_byte(output, ' ');
            if (!any) {
                PUT(output, "<c/>");
            } else if (columns[number].number) {
                PUT(output, "<c><v>");
                put(output, cell.data, cell.size);
                PUT(output, "</v></c>");
            } else if (cell.size > longest) {
                *too_long = true;
                return true;
            } else {
                put_text(output, cell);
            }
        }
        if (!has_room(output, 16)) return false;
        PUT(output, " </row>\n");
    }
    return true;
}
