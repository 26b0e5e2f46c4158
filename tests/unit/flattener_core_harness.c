/* Runs core.c and writing.c on cases from a file: the size of each (4 bytes, little-endian), and its lines. Prints how many there were.
 *
 * Built with -fsanitize by test_flattener_compiled.py; with clang's -fsanitize=fuzzer and -DFUZZ, it is a target for
 * libFuzzer: clang -DFUZZ -fsanitize=fuzzer,address,undefined -Iservices/flattener tests/unit/flattener_core_harness.c
 * services/flattener/core.c services/flattener/writing.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "writing.h"

static bool ask(void *context, Core *core, int what, Text json, Text *answer) {
    (void)context;
    if (json.size % 7 == 6) return false;
    *answer = core_keep(core, json.data, json.size + (size_t)what * 0);
    return answer->data != NULL;
}

static size_t check(const Cells *cells) {
    size_t sum = 0;
    for (size_t row = 0; row < cells->rows; row++) {
        if (cells->offsets[row] > cells->offsets[row + 1]) abort();
        if (cells->valid && !(cells->valid[row / 8] >> row % 8 & 1) && cells->offsets[row] != cells->offsets[row + 1]) abort();
    }
    for (int64_t at = 0; at < cells->offsets[cells->rows]; at++) sum += (unsigned char)cells->data[at];
    return sum;
}

/* Write a column twice: as it is, and as views of texts. */
static void write(const Cells *cells) {
    const void *buffers[] = {cells->valid, cells->offsets, cells->data};
    char *views = calloc(cells->rows, 16);
    for (size_t row = 0; row < cells->rows; row++) {
        int32_t start = (int32_t)cells->offsets[row], size = (int32_t)cells->offsets[row + 1] - start;
        memcpy(views + 16 * row, &size, 4);
        if (size) memcpy(views + 16 * row + 4, cells->data + start, size > 12 ? 4 : (size_t)size);
        if (size > 12) memcpy(views + 16 * row + 12, &start, 4);
    }
    const void *of_views[] = {cells->valid, views, cells->data};
    TextColumn columns[] = {
        {.array = {.length = (int64_t)cells->rows, .buffers = buffers}},
        {.array = {.length = (int64_t)cells->rows, .buffers = of_views}, .views = true},
    };
    for (size_t longest = 20; longest < 2000; longest += 1000) {
        Output output = {NULL, 0, 0};
        bool too_long;
        if (!write_csv(&output, columns, 2, longest > 20) || !write_sheet(&output, columns, 2, longest, &too_long)) abort();
        free(output.data);
    }
    free(views);
}

static void take(Core *core, size_t table, size_t column, size_t first, size_t rows) {
    Cells cells;
    if (core_take(core, table, column, first, rows, &cells) != 1) return;
    if (cells.rows != rows) abort();
    check(&cells);
    write(&cells);
    cells_free(&cells);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t budgets[] = {1, 17, 1 << 20};
    /* No more room than is said to be needed, so that reading beyond it is seen. */
    char *lines = malloc(size + 1);
    memcpy(lines, data, size);
    lines[size] = 0;
    for (size_t each = 0; each < sizeof budgets / sizeof *budgets; each++) {
        const uint64_t key[2] = {1, 2};
        Core *core = core_new(ask, NULL, key);
        size_t at = 0;
        int done = CORE_DONE;
        while (done == CORE_DONE && at < size) {
            done = core_add(core, lines, size, &at, budgets[each]);
            if (done != CORE_DONE) break;
            for (size_t table = 0; table < core_tables(core); table++) {
                size_t rows = core_table(core, table).rows, some = rows > 3 ? 3 : rows;
                for (size_t column = 0; column < core_table(core, table).columns; column++) {
                    (void)core_column(core, table, column);
                    take(core, table, column, 0, some);
                    take(core, table, column, some, rows - some);
                }
                core_taken(core, table);
            }
        }
        if (at > size) abort();
        core_free(core);
    }
    free(lines);
    return 0;
}

#ifndef FUZZ
int main(int count, char **names) {
    FILE *file = count == 2 ? fopen(names[1], "rb") : NULL;
    unsigned char head[4];
    size_t cases = 0;
    if (!file) return 2;
    for (; fread(head, 1, 4, file) == 4; cases++) {
        size_t size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        uint8_t *data = malloc(size + 1);
        if (fread(data, 1, size, file) != size) return 2;
        LLVMFuzzerTestOneInput(data, size);
        free(data);
    }
    fclose(file);
    printf("%zu cases\n", cases);
    return 0;
}
#endif
