/* Records of JSON Lines become the cells of tables, by the rules that rows.py states and does in Python.
 *
 * Nothing here knows of Python: what is rare and hard (numbers with exponents, arrays of other things than texts and
 * objects) is asked of whoever calls. A Core is for one thread at a time.
 */
#ifndef BOWERBIRD_FLATTENER_CORE_H
#define BOWERBIRD_FLATTENER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CORE_DONE, CORE_REFUSED, CORE_NO_MEMORY, CORE_ASKED };
/* CORE_REFUSED: a line is no JSON object, or has objects nested too deep. CORE_ASKED: what was asked for failed, and has said why. */

enum { KIND_NONE = 0, KIND_TEXT = 1, KIND_INTEGER = 2, KIND_FLOAT = 4, KIND_BOOLEAN = 8 };
/* As in rows.py. */

typedef struct {
    const char *data;
    size_t size;
} Text;

/* Return how many bytes a text has at its start, or at its end, that are a white space of Unicode's. */
size_t white_start(Text text);
size_t white_end(Text text);

typedef struct Core Core;

/* Give the text of a number (NUMBER_TEXT) or of any value as compact JSON (JSON_TEXT), which core_keep keeps. */
enum { NUMBER_TEXT, JSON_TEXT };
typedef bool (*Ask)(void *context, Core *core, int what, Text json, Text *answer);

/* The cells of a column in some rows, as Arrow's large strings: the cell i is data[offsets[i]] up to
 * offsets[i + 1], and null unless its bit in valid is set. valid is NULL if none is null. */
typedef struct {
    int64_t *offsets;
    uint8_t *valid;
    char *data;
    size_t rows;
    size_t nulls;
} Cells;

typedef struct {
    Text name;
    uint8_t kinds;
} ColumnInfo;

typedef struct {
    Text name;
    size_t blank;
    size_t rows;
    size_t columns;
} TableInfo;

/* Return NULL if there is no memory. The key is for hashes of names, and no publisher should know it. */
Core *core_new(Ask ask, void *context, const uint64_t key[2]);
void core_free(Core *core);

/* Add the records of some lines, from *at on, up to the end, or until a table has at least `cells` cells to be taken:
 * *at is where to go on; if a line is refused, where it starts. The byte after the last one must be NUL. After anything
 * but CORE_DONE, only core_free may be called. */
int core_add(Core *core, const char *lines, size_t size, size_t *at, size_t cells);

size_t core_tables(const Core *core);
TableInfo core_table(const Core *core, size_t table);
ColumnInfo core_column(const Core *core, size_t table, size_t column);

/* Take a column's cells in some rows, which the caller frees with cells_free. To be called for rows that follow those
 * of the call before. Return 1, 0 if there are none, -1 without memory. */
int core_take(Core *core, size_t table, size_t column, size_t first, size_t rows, Cells *cells);
void cells_free(Cells *cells);
/* Start anew after all rows of a table were taken. */
void core_taken(Core *core, size_t table);

/* Keep a text until the record is done; data is NULL without memory. */
Text core_keep(Core *core, const char *data, size_t size);

#endif
