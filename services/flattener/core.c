#include "core.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_DEPTH = 127,    /* of objects in each other, as in rows.py */
    MAX_NESTING = 1000, /* of what is in a cell; Python's decoder gives up at about as many */
    EXACT_DIGITS = 15,  /* a decimal number with so many is the shortest text of the double next to it */
    MAX_NUMBER = 40,    /* bytes of a number that is looked at here */
    CHUNK = 1 << 16,
    REUSED = 1 << 16, /* bytes that a column keeps for what follows */
};

/* Memory that is freed at once. */

typedef struct Chunk {
    struct Chunk *before;
    size_t size;
} Chunk;

typedef struct {
    Chunk *last;
    char *free, *end;
} Arena;

/* A cell that waits to be taken: its row, and where it ends among the bytes of its column. */
typedef struct {
    size_t row;
    int64_t end;
} Kept;

/* Cells that are null are not kept: a table may have many columns of which each row has few. */
typedef struct Column {
    Text name;
    uint8_t kinds;
    Kept *kept;
    char *data;
    size_t count, room, size, data_room;
    size_t taken; /* of those that are kept */
    uint64_t row; /* the last one that has a cell here */
    Text cell;
    uint8_t kind;
} Column;

/* Names, and the number of each. */
typedef struct {
    size_t *buckets; /* numbers, each one more than it is; 0: free */
    size_t room, count;
} Names;

typedef struct {
    Text name;
    Column *columns;
    size_t count, room, rows, blank;
    Names names;
} Table;

typedef struct Place Place;
typedef struct Node Node;

/* A key of the objects at a place. */
typedef struct Slot {
    Text key;
    bool plain;        /* its JSON is itself, between quotes */
    int pushed;        /* 1 + its number among those that rows of arrays inside have at their end; 0: it is none */
    ptrdiff_t column;  /* of the row that the object is in; -1: not known yet */
    Place *place, *object, *items;
    struct Slot *next; /* that followed it the last time */
    uint64_t seen;     /* the last object with it */
    Node *node;        /* in that object */
    size_t position;   /* in its order, while that is looked for */
} Slot;

/* Where objects are. Their values are in rows of the place that `row` is: this one, or one that has it as an object. */
struct Place {
    Place *above, *row;
    int depth, level;
    Text name;   /* of the table, if it has one, and before the names of columns that are pushed down */
    Text prefix; /* of names of columns */
    bool root;
    ptrdiff_t table; /* -1: none yet */
    Slot **slots;
    size_t count, room;
    Names names;
    Slot *first;
    ptrdiff_t *pushed; /* columns, two for each level above; NULL: none known yet */
};

typedef enum { NODE_CELL, NODE_NOTHING, NODE_ROWS, NODE_OBJECT } NodeType;

/* A value of the record in hand. */
struct Node {
    Slot *slot;
    NodeType type;
    uint8_t kind;
    bool array;
    Text text; /* of a cell */
    Text json; /* of an array or object */
    Node *child, *next;
};

typedef struct {
    Slot *slot;
    Text text;
    uint8_t kind;
} Cell;

typedef struct {
    Place *place;
    int key;
    Text text;
    uint8_t kind;
} Pushed;

struct Core {
    Ask ask;
    void *context;
    uint64_t key[2];
    jmp_buf failed;
    Arena lasting, passing;
    Table *tables;
    size_t table_count, table_room;
    Names table_names;
    Place *root;
    uint64_t objects, rows;
    size_t most;
    const char *at, *end;
    Cell *cells;
    size_t cell_count, cell_room;
    Pushed *pushed;
    size_t pushed_count, pushed_room;
    Column **touched;
    size_t touched_room;
};

static const Text PUSHED[2] = {{"ocid", 4}, {"id", 2}};

static _Noreturn void fail(Core *core, int how) { longjmp(core->failed, how); }

static void *grown(Core *core, void *data, size_t *room, size_t needed, size_t each) {
    if (needed <= *room) return data;
    size_t more = *room < 8 ? 8 : *room;
    while (more < needed) more += more / 2 + 1;
    if (more > SIZE_MAX / 2 / each) fail(core, CORE_NO_MEMORY);
    void *bigger = realloc(data, more * each);
    if (!bigger) fail(core, CORE_NO_MEMORY);
    *room = more;
    return bigger;
}

static bool arena_reserve(Arena *arena, size_t size) {
    size += sizeof(max_align_t);
    if ((size_t)(arena->end - arena->free) >= size) return true;
    /* Each piece is twice the one before, so that soon one is enough for a record. */
    size_t least = arena->last ? 2 * arena->last->size : CHUNK;
    size_t whole = (size > least ? size : least) + sizeof(Chunk);
    Chunk *chunk = malloc(whole);
    if (!chunk) return false;
    chunk->before = arena->last;
    chunk->size = whole;
    arena->last = chunk;
    arena->free = (char *)(chunk + 1);
    arena->end = (char *)chunk + whole;
    return true;
}

static void *arena_take(Core *core, Arena *arena, size_t size) {
    if (!arena_reserve(arena, size)) fail(core, CORE_NO_MEMORY);
    size_t odd = (uintptr_t)arena->free % sizeof(max_align_t);
    char *data = arena->free + (odd ? sizeof(max_align_t) - odd : 0);
    arena->free = data + size;
    return data;
}

/* Free all but the largest piece, which is used again. */
static void arena_empty(Arena *arena) {
    Chunk *kept = NULL;
    for (Chunk *chunk = arena->last, *before; chunk; chunk = before) {
        before = chunk->before;
        if (!kept || chunk->size > kept->size) {
            Chunk *smaller = kept;
            kept = chunk;
            chunk = smaller;
        }
        free(chunk);
    }
    arena->last = kept;
    if (kept) {
        kept->before = NULL;
        arena->free = (char *)(kept + 1);
        arena->end = (char *)kept + kept->size;
    }
}

static void arena_free(Arena *arena) {
    for (Chunk *chunk = arena->last, *before; chunk; chunk = before) {
        before = chunk->before;
        free(chunk);
    }
}

static Text joined_text(Core *core, Arena *arena, Text first, const char *between, Text last) {
    size_t middle = strlen(between);
    char *data = arena_take(core, arena, first.size + middle + last.size + 1);
    memcpy(data, first.data, first.size);
    memcpy(data + first.size, between, middle);
    memcpy(data + first.size + middle, last.data, last.size);
    return (Text){data, first.size + middle + last.size};
}

static bool same(Text one, Text other) {
    return one.size == other.size && memcmp(one.data, other.data, one.size) == 0;
}

/* Hashes of names: SipHash-1-3, https://www.aumasson.jp/siphash/siphash.pdf. Keys come from publishers, and none should
 * be able to choose many that are slow to tell apart. */

static uint64_t turned(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = turned(v[1], 13) ^ v[0];
    v[3] = turned(v[3], 16) ^ v[2];
    v[0] = turned(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = turned(v[1], 17) ^ v[2];
    v[3] = turned(v[3], 21) ^ v[0];
    v[2] = turned(v[2], 32);
}

static uint64_t hash(const Core *core, Text text) {
    uint64_t v[4] = {core->key[0] ^ 0x736f6d6570736575, core->key[1] ^ 0x646f72616e646f6d,
                     core->key[0] ^ 0x6c7967656e657261, core->key[1] ^ 0x7465646279746573};
    for (size_t at = 0;; at += 8) {
        uint64_t word = 0;
        size_t left = text.size - at;
        if (left >= 8) {
            memcpy(&word, text.data + at, 8);
        } else {
            memcpy(&word, text.data + at, left);
            word |= (uint64_t)text.size << 56;
        }
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
        if (left < 8) break;
    }
    v[2] ^= 0xff;
    for (int round = 0; round < 3; round++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

typedef Text (*NameOf)(const void *things, size_t number);

/* Return the number of a name, -1 if it is new, which it is no longer then: it has the next number. */
static ptrdiff_t known(Core *core, Names *names, Text name, NameOf name_of, const void *things) {
    if (names->count * 2 >= names->room) {
        size_t room = names->room ? names->room * 2 : 16;
        size_t *buckets = calloc(room, sizeof *buckets);
        if (!buckets) fail(core, CORE_NO_MEMORY);
        for (size_t number = 0; number < names->count; number++) {
            size_t at = hash(core, name_of(things, number)) & (room - 1);
            while (buckets[at]) at = (at + 1) & (room - 1);
            buckets[at] = number + 1;
        }
        free(names->buckets);
        names->buckets = buckets;
        names->room = room;
    }
    size_t at = hash(core, name) & (names->room - 1);
    for (; names->buckets[at]; at = (at + 1) & (names->room - 1)) {
        if (same(name_of(things, names->buckets[at] - 1), name)) return (ptrdiff_t)names->buckets[at] - 1;
    }
    names->buckets[at] = ++names->count;
    return -1;
}

static Text column_name(const void *columns, size_t number) { return ((const Column *)columns)[number].name; }
static Text table_name(const void *tables, size_t number) { return ((const Table *)tables)[number].name; }
static Text slot_name(const void *slots, size_t number) { return ((Slot *const *)slots)[number]->key; }

static Text lasting(Core *core, Text text) {
    return joined_text(core, &core->lasting, text, "", (Text){"", 0});
}

static size_t column_of(Core *core, Table *table, Text name) {
    /* Room first: a name that is known must have its column. */
    table->columns = grown(core, table->columns, &table->room, table->count + 1, sizeof *table->columns);
    ptrdiff_t number = known(core, &table->names, name, column_name, table->columns);
    if (number >= 0) return (size_t)number;
    Column *column = &table->columns[table->count];
    memset(column, 0, sizeof *column);
    column->name = (Text){"", 0};
    table->count++;
    column->name = lasting(core, name);
    return table->count - 1;
}

static size_t table_of(Core *core, Place *place) {
    if (place->table >= 0) return (size_t)place->table;
    core->tables = grown(core, core->tables, &core->table_room, core->table_count + 1, sizeof *core->tables);
    ptrdiff_t number = known(core, &core->table_names, place->name, table_name, core->tables);
    if (number < 0) {
        Table *table = &core->tables[core->table_count];
        memset(table, 0, sizeof *table);
        table->name = place->name;
        number = (ptrdiff_t)core->table_count++;
    }
    place->table = number;
    return (size_t)number;
}

static Place *new_place(Core *core, Slot *slot, int levels) {
    Place *above = slot->place;
    if (above->depth + levels > MAX_DEPTH) fail(core, CORE_REFUSED);
    Place *place = arena_take(core, &core->lasting, sizeof *place);
    memset(place, 0, sizeof *place);
    place->above = above;
    place->depth = above->depth + levels;
    place->level = above->level + 1;
    place->table = -1;
    place->name = above->root ? slot->key : joined_text(core, &core->lasting, above->name, "_", slot->key);
    if (levels == 1) {
        Text start = joined_text(core, &core->lasting, above->prefix, "", slot->key);
        place->row = above->row;
        place->prefix = joined_text(core, &core->lasting, start, "_", (Text){"", 0});
    } else {
        place->row = place;
        place->prefix = (Text){"", 0};
    }
    return place;
}

static Place *object_place(Core *core, Slot *slot) {
    if (!slot->object) slot->object = new_place(core, slot, 1);
    return slot->object;
}

static Place *items_place(Core *core, Slot *slot) {
    if (!slot->items) slot->items = new_place(core, slot, 2);
    return slot->items;
}

static bool is_plain(Text key) {
    for (size_t at = 0; at < key.size; at++) {
        unsigned char byte = (unsigned char)key.data[at];
        if (byte < 0x20 || byte == '"' || byte == '\\') return false;
    }
    return true;
}

static Slot *slot_of(Core *core, Place *place, Text key) {
    place->slots = grown(core, place->slots, &place->room, place->count + 1, sizeof *place->slots);
    ptrdiff_t number = known(core, &place->names, key, slot_name, place->slots);
    if (number >= 0) return place->slots[number];
    Slot *slot = arena_take(core, &core->lasting, sizeof *slot);
    memset(slot, 0, sizeof *slot);
    slot->place = place;
    slot->column = -1;
    slot->key = lasting(core, key);
    slot->plain = is_plain(key);
    for (int number_pushed = 0; number_pushed < 2; number_pushed++) {
        if (same(key, PUSHED[number_pushed])) slot->pushed = number_pushed + 1;
    }
    place->slots[place->count++] = slot;
    return slot;
}

/* Reading JSON (RFC 8259). Each line ends with a byte that no value has: a line feed or NUL. */

static void skip_space(Core *core) {
    while (core->at < core->end && (*core->at == ' ' || *core->at == '\t' || *core->at == '\r')) core->at++;
}

static unsigned char byte_at(const char *at) { return (unsigned char)*at; }

/* Return how many bytes of UTF-8 a character beyond ASCII has (RFC 3629), 0 if it is none. */
static size_t utf8_size(const char *at, const char *end) {
    unsigned char first = byte_at(at), low = 0x80, high = 0xBF;
    size_t size = 2;
    if (first < 0xC2 || first > 0xF4) return 0;
    if (first >= 0xE0) size = 3;
    if (first >= 0xF0) size = 4;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
    if ((size_t)(end - at) < size || byte_at(at + 1) < low || byte_at(at + 1) > high) return 0;
    for (size_t number = 2; number < size; number++) {
        if ((byte_at(at + number) & 0xC0) != 0x80) return 0;
    }
    return size;
}

/* Return where the text goes on that cannot just be copied: a quote, a backslash, or what is refused. */
static const char *skip_copied(Core *core, const char *at) {
    const uint64_t ones = 0x0101010101010101, highs = 0x8080808080808080;
    const char *end = core->end;
    for (;;) {
        while (end - at >= 8) {
            uint64_t word;
            memcpy(&word, at, 8);
            uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
            uint64_t odd = word | (word - ones * 0x20) | (quote - ones) | (slash - ones);
            if (odd & highs) break;
            at += 8;
        }
        /* The word above may be odd for nothing, if it has bytes beyond ASCII. */
        while (at < end) {
            unsigned char byte = byte_at(at);
            if (byte < 0x20 || byte == '"' || byte == '\\') return at;
            if (byte >= 0x80) {
                size_t size = utf8_size(at, end);
                if (!size) return at;
                at += size;
                continue;
            }
            at++;
            if (end - at >= 8 && byte_at(at) < 0x80) break;
        }
        if (at >= end) return end;
    }
}

static int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

static unsigned long hex_unit(Core *core) {
    unsigned long unit = 0;
    if (core->end - core->at < 4) fail(core, CORE_REFUSED);
    for (int number = 0; number < 4; number++) {
        int digit = hex_digit(*core->at++);
        if (digit < 0) fail(core, CORE_REFUSED);
        unit = unit << 4 | (unsigned long)digit;
    }
    return unit;
}

static char *put_utf8(char *out, unsigned long point) {
    if (point < 0x80) {
        *out++ = (char)point;
    } else if (point < 0x800) {
        *out++ = (char)(0xC0 | point >> 6);
        *out++ = (char)(0x80 | (point & 0x3F));
    } else if (point < 0x10000) {
        *out++ = (char)(0xE0 | point >> 12);
        *out++ = (char)(0x80 | (point >> 6 & 0x3F));
        *out++ = (char)(0x80 | (point & 0x3F));
    } else {
        *out++ = (char)(0xF0 | point >> 18);
        *out++ = (char)(0x80 | (point >> 12 & 0x3F));
        *out++ = (char)(0x80 | (point >> 6 & 0x3F));
        *out++ = (char)(0x80 | (point & 0x3F));
    }
    return out;
}

static char *put_escape(Core *core, char *out) {
    static const char escapes[] = "\"\"\\\\//b\bf\fn\nr\rt\t";
    char which = *core->at++;
    if (which != 'u') {
        for (const char *escape = escapes; *escape; escape += 2) {
            if (*escape == which) {
                *out++ = escape[1];
                return out;
            }
        }
        fail(core, CORE_REFUSED);
    }
    unsigned long unit = hex_unit(core);
    if (unit >= 0xD800 && unit < 0xE000) {
        if (unit >= 0xDC00 || core->end - core->at < 2 || core->at[0] != '\\' || core->at[1] != 'u') {
            fail(core, CORE_REFUSED);
        }
        core->at += 2;
        unsigned long low = hex_unit(core);
        if (low < 0xDC00 || low >= 0xE000) fail(core, CORE_REFUSED);
        unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
    }
    return put_utf8(out, unit);
}

/* Read a text, whose quote is the byte in hand. */
static Text read_text(Core *core) {
    const char *start = ++core->at;
    core->at = skip_copied(core, start);
    if (core->at < core->end && *core->at == '"') return (Text){start, (size_t)(core->at++ - start)};
    /* With its escapes read, it is no longer than it is in JSON. */
    size_t most = (size_t)(core->end - start);
    if (!arena_reserve(&core->passing, most)) fail(core, CORE_NO_MEMORY);
    char *text = core->passing.free, *out = text;
    for (;;) {
        size_t size = (size_t)(core->at - start);
        memcpy(out, start, size);
        out += size;
        if (core->at >= core->end) fail(core, CORE_REFUSED);
        if (*core->at == '"') break;
        if (*core->at != '\\' || core->end - core->at < 2) fail(core, CORE_REFUSED);
        core->at++;
        out = put_escape(core, out);
        start = core->at;
        core->at = skip_copied(core, start);
    }
    core->at++;
    core->passing.free = out;
    return (Text){text, (size_t)(out - text)};
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

/* Read a number; tell whether it has a fraction or an exponent. */
static Text read_number(Core *core, bool *fraction, bool *exponent) {
    const char *start = core->at, *end = core->end, *at = start;
    *fraction = *exponent = false;
    if (at < end && *at == '-') at++;
    if (at < end && *at == '0') {
        at++;
    } else {
        if (at >= end || !is_digit(*at)) fail(core, CORE_REFUSED);
        while (at < end && is_digit(*at)) at++;
    }
    if (at < end && *at == '.') {
        *fraction = true;
        at++;
        if (at >= end || !is_digit(*at)) fail(core, CORE_REFUSED);
        while (at < end && is_digit(*at)) at++;
    }
    if (at < end && (*at == 'e' || *at == 'E')) {
        *exponent = true;
        at++;
        if (at < end && (*at == '+' || *at == '-')) at++;
        if (at >= end || !is_digit(*at)) fail(core, CORE_REFUSED);
        while (at < end && is_digit(*at)) at++;
    }
    if (at < end && is_digit(*at)) fail(core, CORE_REFUSED); /* 01 */
    core->at = at;
    return (Text){start, (size_t)(at - start)};
}

static Text asked(Core *core, int what, Text json) {
    Text answer = {NULL, 0};
    if (!core->ask(core->context, core, what, json, &answer)) fail(core, CORE_ASKED);
    return answer;
}

/* Return the shortest text that is read as the same double, without exponent. */
static Text fraction_text(Core *core, Text json) {
    int digits = 0;
    for (size_t at = 0; at < json.size && digits <= EXACT_DIGITS; at++) {
        digits += is_digit(json.data[at]) && (digits || json.data[at] != '0');
    }
    if (digits > EXACT_DIGITS || json.size > MAX_NUMBER) return asked(core, NUMBER_TEXT, json);
    while (json.data[json.size - 1] == '0') json.size--;
    if (json.data[json.size - 1] == '.') json.size--;
    return json;
}

static bool is_word(Core *core, const char *word, size_t size) {
    if ((size_t)(core->end - core->at) < size || memcmp(core->at, word, size) != 0) return false;
    core->at += size;
    return true;
}

static void skip_value(Core *core, int nesting);

static void skip_members(Core *core, int nesting, char close, bool keys) {
    if (nesting >= MAX_NESTING) fail(core, CORE_REFUSED);
    core->at++;
    skip_space(core);
    if (*core->at == close) {
        core->at++;
        return;
    }
    for (;;) {
        if (keys) {
            if (*core->at != '"') fail(core, CORE_REFUSED);
            read_text(core);
            skip_space(core);
            if (*core->at++ != ':') fail(core, CORE_REFUSED);
            skip_space(core);
        }
        skip_value(core, nesting + 1);
        skip_space(core);
        char byte = *core->at;
        if (byte != ',' && byte != close) fail(core, CORE_REFUSED);
        core->at++;
        if (byte == close) return;
        skip_space(core);
    }
}

/* Go beyond a value, making sure that it is one. */
static void skip_value(Core *core, int nesting) {
    bool fraction, exponent;
    switch (*core->at) {
    case '"': read_text(core); return;
    case '{': skip_members(core, nesting, '}', true); return;
    case '[': skip_members(core, nesting, ']', false); return;
    case 't':
        if (!is_word(core, "true", 4)) fail(core, CORE_REFUSED);
        return;
    case 'f':
        if (!is_word(core, "false", 5)) fail(core, CORE_REFUSED);
        return;
    case 'n':
        if (!is_word(core, "null", 4)) fail(core, CORE_REFUSED);
        return;
    default: read_number(core, &fraction, &exponent);
    }
}

static Node *new_node(Core *core, Slot *slot, NodeType type) {
    Node *node = arena_take(core, &core->passing, sizeof *node);
    *node = (Node){.slot = slot, .type = type};
    return node;
}

static void read_object(Core *core, Place *place, Node *node);

size_t white_start(Text text) {
    if (!text.size) return 0;
    const unsigned char *at = (const unsigned char *)text.data;
    if ((at[0] >= 9 && at[0] <= 13) || at[0] == ' ') return 1;
    if (text.size >= 2 && at[0] == 0xC2) return at[1] == 0x85 || at[1] == 0xA0 ? 2 : 0;
    if (text.size < 3) return 0;
    bool white = (at[0] == 0xE1 && at[1] == 0x9A && at[2] == 0x80) ||                  /* U+1680 */
                 (at[0] == 0xE2 && at[1] == 0x80 && at[2] >= 0x80 && at[2] <= 0x8A) || /* U+2000 to U+200A */
                 (at[0] == 0xE2 && at[1] == 0x80 && (at[2] == 0xA8 || at[2] == 0xA9 || at[2] == 0xAF)) ||
                 (at[0] == 0xE2 && at[1] == 0x81 && at[2] == 0x9F) || /* U+205F */
                 (at[0] == 0xE3 && at[1] == 0x80 && at[2] == 0x80);   /* U+3000 */
    return white ? 3 : 0;
}

size_t white_end(Text text) {
    for (size_t size = 1; size <= 3 && size <= text.size; size++) {
        if (white_start((Text){text.data + text.size - size, size}) == size) return size;
    }
    return 0;
}

static Text stripped(Text text) {
    for (size_t size; (size = white_start(text)); text.size -= size) text.data += size;
    for (size_t size; (size = white_end(text)); text.size -= size) {
    }
    return text;
}

static bool is_quoted(Text text) {
    for (size_t at = 0; at < text.size; at++) {
        char byte = text.data[at];
        if (byte == '"' || byte == ',' || byte == '\r' || byte == '\n') return true;
    }
    return false;
}

/* Return texts as a row of CSV, less white space around it. */
static Text joined_texts(Core *core, const Node *first) {
    if (!first->next && !is_quoted(first->text) && first->text.size) return stripped(first->text);
    size_t most = 2;
    for (const Node *node = first; node; node = node->next) most += 2 * node->text.size + 3;
    char *text = arena_take(core, &core->passing, most), *out = text;
    for (const Node *node = first; node; node = node->next) {
        if (node != first) *out++ = ',';
        bool quoted = is_quoted(node->text);
        if (quoted) *out++ = '"';
        for (size_t at = 0; at < node->text.size; at++) {
            if (node->text.data[at] == '"') *out++ = '"';
            *out++ = node->text.data[at];
        }
        if (quoted) *out++ = '"';
    }
    if (out == text) {
        *out++ = '"';
        *out++ = '"';
    }
    return stripped((Text){text, (size_t)(out - text)});
}

static void read_items(Core *core, Place *place, Node *array) {
    Node **next = &array->child;
    for (;;) {
        Node *item = new_node(core, NULL, NODE_OBJECT);
        const char *start = core->at;
        if (*start == '{') {
            read_object(core, place, item);
        } else {
            Node *value = new_node(core, slot_of(core, place, (Text){"value", 5}), NODE_CELL);
            value->kind = KIND_TEXT;
            if (*start == '"') {
                value->text = read_text(core);
            } else {
                skip_value(core, 0);
                value->text = asked(core, JSON_TEXT, (Text){start, (size_t)(core->at - start)});
            }
            item->child = value;
        }
        *next = item;
        next = &item->next;
        skip_space(core);
        char byte = *core->at;
        if (byte != ',' && byte != ']') fail(core, CORE_REFUSED);
        core->at++;
        if (byte == ']') return;
        skip_space(core);
    }
}

/* Read an array of texts, or of anything. */
static void read_others(Core *core, Node *array) {
    Node *first = NULL, **next = &first;
    bool texts = true;
    for (;;) {
        if (*core->at == '"') {
            Node *node = new_node(core, NULL, NODE_CELL);
            node->text = read_text(core);
            *next = node;
            next = &node->next;
        } else {
            texts = false;
            skip_value(core, 1);
        }
        skip_space(core);
        char byte = *core->at;
        if (byte != ',' && byte != ']') fail(core, CORE_REFUSED);
        core->at++;
        if (byte == ']') break;
        skip_space(core);
    }
    array->json.size = (size_t)(core->at - array->json.data);
    array->text = texts ? joined_texts(core, first) : asked(core, JSON_TEXT, array->json);
}

static void read_array(Core *core, Node *node) {
    Place *place = items_place(core, node->slot);
    node->json.data = core->at++;
    node->array = true;
    node->kind = KIND_TEXT;
    skip_space(core);
    if (*core->at == ']') {
        core->at++;
        node->type = NODE_NOTHING;
    } else if (*core->at == '{') {
        node->type = NODE_ROWS;
        read_items(core, place, node);
    } else {
        read_others(core, node);
    }
    node->json.size = (size_t)(core->at - node->json.data);
}

/* Read a value, which a member of an object has. */
static void read_value(Core *core, Node *node) {
    bool fraction, exponent;
    switch (*core->at) {
    case '"':
        node->text = read_text(core);
        node->kind = KIND_TEXT;
        return;
    case '{':
        node->type = NODE_OBJECT;
        node->kind = KIND_TEXT;
        node->json.data = core->at;
        read_object(core, object_place(core, node->slot), node);
        node->json.size = (size_t)(core->at - node->json.data);
        return;
    case '[': read_array(core, node); return;
    case 't':
        if (!is_word(core, "true", 4)) fail(core, CORE_REFUSED);
        node->text = (Text){"true", 4};
        node->kind = KIND_BOOLEAN;
        return;
    case 'f':
        if (!is_word(core, "false", 5)) fail(core, CORE_REFUSED);
        node->text = (Text){"false", 5};
        node->kind = KIND_BOOLEAN;
        return;
    case 'n':
        if (!is_word(core, "null", 4)) fail(core, CORE_REFUSED);
        node->kind = KIND_NONE;
        return;
    default:
        node->text = read_number(core, &fraction, &exponent);
        node->kind = fraction || exponent ? KIND_FLOAT : KIND_INTEGER;
        if (exponent) {
            node->text = asked(core, NUMBER_TEXT, node->text);
        } else if (fraction) {
            node->text = fraction_text(core, node->text);
        } else if (node->text.size > MAX_NUMBER || same(node->text, (Text){"-0", 2})) {
            node->text = asked(core, NUMBER_TEXT, node->text); /* which may be refused, or is no minus */
        }
    }
}

/* Read a key and its colon. Objects of a place are alike: it is likely the one that came next before. */
static Slot *read_key(Core *core, Place *place, Slot *likely) {
    if (*core->at != '"') fail(core, CORE_REFUSED);
    Slot *slot = likely;
    if (slot && slot->plain && (size_t)(core->end - core->at) > slot->key.size + 1 &&
        core->at[slot->key.size + 1] == '"' && memcmp(core->at + 1, slot->key.data, slot->key.size) == 0) {
        core->at += slot->key.size + 2;
    } else {
        slot = slot_of(core, place, read_text(core));
    }
    skip_space(core);
    if (*core->at != ':') fail(core, CORE_REFUSED);
    core->at++;
    skip_space(core);
    return slot;
}

static void read_object(Core *core, Place *place, Node *object) {
    uint64_t number = ++core->objects;
    Node **next = &object->child;
    Slot **expected = &place->first;
    core->at++;
    skip_space(core);
    if (*core->at == '}') {
        core->at++;
        return;
    }
    for (;;) {
        Slot *slot = read_key(core, place, *expected);
        *expected = slot;
        expected = &slot->next;
        Node *node;
        if (slot->seen == number) { /* again: the last value counts, in the first one's place */
            Node *after = slot->node->next;
            node = slot->node;
            *node = (Node){.slot = slot, .next = after};
        } else {
            slot->seen = number;
            node = slot->node = new_node(core, slot, NODE_CELL);
            *next = node;
            next = &node->next;
        }
        read_value(core, node);
        skip_space(core);
        char byte = *core->at;
        if (byte != ',' && byte != '}') fail(core, CORE_REFUSED);
        core->at++;
        if (byte == '}') return;
        skip_space(core);
    }
}

/* Making rows. */

/* The names of an object's columns, in order, each once. */
typedef struct {
    Text *names;
    size_t count, room;
    size_t *buckets; /* numbers of names, each one more than it is; twice as many as there is room for names */
} Order;

static void order_index(const Core *core, Order *order, size_t number) {
    size_t mask = 2 * order->room - 1, at = hash(core, order->names[number]) & mask;
    while (order->buckets[at]) at = (at + 1) & mask;
    order->buckets[at] = number + 1;
}

/* Add a name, unless it is there. */
static void order_add(Core *core, Order *order, Text name) {
    if (order->count == order->room) {
        Order larger = {.count = order->count, .room = order->room ? 2 * order->room : 16};
        larger.names = arena_take(core, &core->passing, larger.room * sizeof *larger.names);
        larger.buckets = arena_take(core, &core->passing, 2 * larger.room * sizeof *larger.buckets);
        memset(larger.buckets, 0, 2 * larger.room * sizeof *larger.buckets);
        if (order->count) memcpy(larger.names, order->names, order->count * sizeof *larger.names);
        for (size_t number = 0; number < larger.count; number++) order_index(core, &larger, number);
        *order = larger;
    }
    size_t mask = 2 * order->room - 1, at = hash(core, name) & mask;
    for (; order->buckets[at]; at = (at + 1) & mask) {
        if (same(order->names[order->buckets[at] - 1], name)) return;
    }
    order->names[order->count++] = name;
    order->buckets[at] = order->count;
}

/* Remove a key, and put the last one in its place, as flatterer's maps do. */
static void swap_out(Slot **slots, size_t *count, Slot *slot) {
    Slot *last = slots[--*count];
    last->position = slot->position;
    slots[last->position] = last;
}

static Order columns_in_order(Core *core, const Node *object) {
    Order order = {NULL, 0, 0, NULL};
    size_t count = 0;
    for (const Node *node = object->child; node; node = node->next) count++;
    Slot **slots = arena_take(core, &core->passing, (count + 1) * sizeof *slots);
    count = 0;
    for (const Node *node = object->child; node; node = node->next) {
        node->slot->position = count;
        slots[count++] = node->slot;
    }
    for (const Node *node = object->child; node; node = node->next) {
        if (node->type == NODE_ROWS || node->type == NODE_NOTHING) swap_out(slots, &count, node->slot);
    }
    for (const Node *node = object->child; node; node = node->next) {
        if (node->type == NODE_OBJECT) swap_out(slots, &count, node->slot);
    }
    for (size_t at = 0; at < count; at++) order_add(core, &order, slots[at]->key);
    for (const Node *node = object->child; node; node = node->next) {
        if (node->type != NODE_OBJECT) continue;
        Order inner = columns_in_order(core, node);
        for (size_t number = 0; number < inner.count; number++) {
            order_add(core, &order, joined_text(core, &core->passing, node->slot->key, "_", inner.names[number]));
        }
    }
    return order;
}

/* Find the columns of a row's cells and of those that are pushed down to it, of which some are new to its place. */
static void find_columns(Core *core, Place *place, const Node *object, size_t first_cell, size_t pushed) {
    size_t number = table_of(core, place);
    Order order = columns_in_order(core, object);
    for (size_t at = 0; at < order.count; at++) column_of(core, &core->tables[number], order.names[at]);
    for (size_t at = first_cell; at < core->cell_count; at++) {
        Slot *slot = core->cells[at].slot;
        if (slot->column >= 0) continue;
        Text name = joined_text(core, &core->passing, slot->place->prefix, "", slot->key);
        slot->column = (ptrdiff_t)column_of(core, &core->tables[number], name);
    }
    if (!place->pushed) {
        size_t count = 2 * ((size_t)place->level + 1);
        ptrdiff_t *columns = arena_take(core, &core->lasting, count * sizeof *columns);
        for (size_t at = 0; at < count; at++) columns[at] = -1;
        place->pushed = columns;
    }
    for (size_t at = 0; at < pushed; at++) {
        Pushed *each = &core->pushed[at];
        ptrdiff_t *column = &place->pushed[2 * each->place->level + each->key];
        if (*column >= 0) continue;
        Text above = each->place->root ? (Text){"main", 4} : each->place->name;
        Text name = joined_text(core, &core->passing, above, "_", PUSHED[each->key]);
        *column = (ptrdiff_t)column_of(core, &core->tables[number], name);
    }
}

static void put_cell(Core *core, Column *column, size_t row) {
    Text cell = column->cell;
    column->kept = grown(core, column->kept, &column->room, column->count + 1, sizeof *column->kept);
    column->data = grown(core, column->data, &column->data_room, column->size + cell.size, 1);
    if (cell.size) memcpy(column->data + column->size, cell.data, cell.size);
    column->size += cell.size;
    column->kept[column->count++] = (Kept){row, (int64_t)column->size};
}

static void touch(Core *core, Table *table, size_t number, Text text, uint8_t kind, size_t *count, bool again) {
    Column *column = &table->columns[number];
    if (column->row != core->rows) {
        column->row = core->rows;
        core->touched = grown(core, core->touched, &core->touched_room, *count + 1, sizeof *core->touched);
        core->touched[(*count)++] = column;
    } else if (!again) {
        return;
    }
    column->cell = text;
    column->kind = kind;
}

static void walk(Core *core, Place *place, const Node *object);

static void add_row(Core *core, Place *place, const Node *object) {
    size_t first_cell = core->cell_count, pushed = core->pushed_count, number = table_of(core, place), count = 0;
    walk(core, place, object);
    bool all_known = true;
    for (size_t at = first_cell; at < core->cell_count; at++) all_known &= core->cells[at].slot->column >= 0;
    all_known &= !pushed || place->pushed;
    for (size_t at = 0; all_known && at < pushed; at++) {
        all_known = place->pushed[2 * core->pushed[at].place->level + core->pushed[at].key] >= 0;
    }
    if (!all_known) find_columns(core, place, object, first_cell, pushed);
    Table *table = &core->tables[number];
    core->rows++;
    for (size_t at = first_cell; at < core->cell_count; at++) {
        Cell *cell = &core->cells[at];
        touch(core, table, (size_t)cell->slot->column, cell->text, cell->kind, &count, true);
    }
    for (size_t at = 0; at < pushed; at++) {
        Pushed *each = &core->pushed[at];
        ptrdiff_t column = place->pushed[2 * each->place->level + each->key];
        touch(core, table, (size_t)column, each->text, each->kind, &count, false);
    }
    core->cell_count = first_cell;
    if (!table->count) {
        table->blank++;
        return;
    }
    for (size_t at = 0; at < count; at++) {
        Column *column = core->touched[at];
        column->kinds |= column->kind;
        if (column->kind != KIND_NONE) put_cell(core, column, table->rows);
    }
    table->rows++;
    if (table->rows * table->count > core->most) core->most = table->rows * table->count;
}

static void push(Core *core, Place *place, const Node *const nodes[2]) {
    for (int key = 0; key < 2; key++) {
        const Node *node = nodes[key];
        if (!node) continue;
        Text text = node->json.data ? asked(core, JSON_TEXT, node->json) : node->text;
        core->pushed = grown(core, core->pushed, &core->pushed_room, core->pushed_count + 1, sizeof *core->pushed);
        core->pushed[core->pushed_count++] = (Pushed){place, key, text, node->kind};
    }
}

/* Add an object's cells to those in hand, and the rows of the arrays in it to their tables. */
static void walk(Core *core, Place *place, const Node *object) {
    const Node *pushed[2] = {NULL, NULL};
    size_t pushed_before = core->pushed_count;
    bool nested = false;
    for (const Node *node = object->child; node; node = node->next) {
        if (node->slot->pushed && (node->type != NODE_CELL || node->kind != KIND_NONE)) {
            pushed[node->slot->pushed - 1] = node;
        }
        if (node->type != NODE_CELL) {
            nested = true;
            continue;
        }
        core->cells = grown(core, core->cells, &core->cell_room, core->cell_count + 1, sizeof *core->cells);
        core->cells[core->cell_count++] = (Cell){node->slot, node->text, node->kind};
    }
    if (!nested) return;
    push(core, place, pushed);
    for (const Node *node = object->child; node; node = node->next) {
        if (node->type != NODE_ROWS) continue;
        for (const Node *item = node->child; item; item = item->next) {
            if (item->child) add_row(core, node->slot->items, item);
        }
    }
    for (const Node *node = object->child; node; node = node->next) {
        if (node->type == NODE_OBJECT) walk(core, node->slot->object, node);
    }
    core->pushed_count = pushed_before;
}

int core_add(Core *core, const char *lines, size_t size, size_t *at, size_t cells) {
    const char *volatile line = lines + *at;
    const char *end = lines + size;
    int failure = setjmp(core->failed);
    if (failure) {
        *at = (size_t)(line - lines);
        return failure;
    }
    core->most = 0;
    for (size_t each = 0; each < core->table_count; each++) {
        size_t waiting = core->tables[each].rows * core->tables[each].count;
        if (waiting > core->most) core->most = waiting;
    }
    while (line < end && core->most < cells) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        core->end = newline ? newline : end;
        core->at = line;
        core->cell_count = core->pushed_count = 0;
        skip_space(core);
        if (core->at < core->end) {
            if (*core->at != '{') fail(core, CORE_REFUSED);
            Node *record = new_node(core, NULL, NODE_OBJECT);
            read_object(core, core->root, record);
            skip_space(core);
            if (core->at < core->end) fail(core, CORE_REFUSED);
            add_row(core, core->root, record);
            arena_empty(&core->passing);
        }
        line = newline ? newline + 1 : end;
    }
    *at = (size_t)(line - lines);
    return CORE_DONE;
}

Text core_keep(Core *core, const char *data, size_t size) {
    if (!arena_reserve(&core->passing, size)) return (Text){NULL, 0};
    char *kept = core->passing.free;
    memcpy(kept, data, size);
    core->passing.free += size;
    return (Text){kept, size};
}

size_t core_tables(const Core *core) { return core->table_count; }

TableInfo core_table(const Core *core, size_t table) {
    const Table *it = &core->tables[table];
    return (TableInfo){it->name, it->blank, it->rows, it->count};
}

ColumnInfo core_column(const Core *core, size_t table, size_t column) {
    const Column *it = &core->tables[table].columns[column];
    return (ColumnInfo){it->name, it->kinds};
}

int core_take(Core *core, size_t table, size_t number, size_t first, size_t rows, Cells *cells) {
    Column *column = &core->tables[table].columns[number];
    if (!column->count) return 0;
    const Kept *kept = column->kept + column->taken;
    size_t count = 0, left = column->count - column->taken;
    while (count < left && kept[count].row < first + rows) count++;
    if (!count) return 0;
    int64_t start = column->taken ? kept[-1].end : 0, end = kept[count - 1].end;
    *cells = (Cells){.rows = rows, .nulls = rows - count};
    cells->offsets = malloc((rows + 1) * sizeof *cells->offsets);
    cells->data = malloc((size_t)(end - start) + 1);
    if (cells->nulls) cells->valid = calloc(rows / 8 + 1, 1);
    if (!cells->offsets || !cells->data || (cells->nulls && !cells->valid)) {
        cells_free(cells);
        return -1;
    }
    if (end > start) memcpy(cells->data, column->data + start, (size_t)(end - start));
    cells->offsets[0] = 0;
    for (size_t row = 0, next = 0; row < rows; row++) {
        bool any = next < count && kept[next].row == first + row;
        if (any && cells->valid) cells->valid[row / 8] |= (uint8_t)(1 << row % 8);
        cells->offsets[row + 1] = any ? kept[next++].end - start : cells->offsets[row];
    }
    column->taken += count;
    return 1;
}

void cells_free(Cells *cells) {
    free(cells->offsets);
    free(cells->valid);
    free(cells->data);
}

void core_taken(Core *core, size_t table) {
    Table *it = &core->tables[table];
    it->rows = 0;
    for (size_t number = 0; number < it->count; number++) {
        Column *column = &it->columns[number];
        column->count = column->taken = column->size = 0;
        if (column->data_room > REUSED) {
            free(column->data);
            column->data = NULL;
            column->data_room = 0;
        }
        if (column->room * sizeof *column->kept > REUSED) {
            free(column->kept);
            column->kept = NULL;
            column->room = 0;
        }
    }
}

Core *core_new(Ask ask, void *context, const uint64_t key[2]) {
    Core *core = calloc(1, sizeof *core);
    if (!core) return NULL;
    core->ask = ask;
    core->context = context;
    core->key[0] = key[0];
    core->key[1] = key[1];
    if (!arena_reserve(&core->lasting, sizeof *core->root)) {
        free(core);
        return NULL;
    }
    core->root = arena_take(core, &core->lasting, sizeof *core->root);
    *core->root = (Place){.depth = 1, .name = {"main", 4}, .prefix = {"", 0}, .root = true, .table = -1};
    core->root->row = core->root;
    return core;
}

static void free_place(Place *place) {
    for (size_t number = 0; number < place->count; number++) {
        if (place->slots[number]->object) free_place(place->slots[number]->object);
        if (place->slots[number]->items) free_place(place->slots[number]->items);
    }
    free(place->slots);
    free(place->names.buckets);
}

void core_free(Core *core) {
    if (!core) return;
    if (core->root) free_place(core->root);
    for (size_t number = 0; number < core->table_count; number++) {
        Table *table = &core->tables[number];
        for (size_t column = 0; column < table->count; column++) {
            free(table->columns[column].kept);
            free(table->columns[column].data);
        }
        free(table->columns);
        free(table->names.buckets);
    }
    free(core->tables);
    free(core->table_names.buckets);
    free(core->cells);
    free(core->pushed);
    free(core->touched);
    arena_free(&core->lasting);
    arena_free(&core->passing);
    free(core);
}
