/* Rows of texts become CSV, and XML of a sheet, byte for byte as archive.py and workbook.py make them with polars. */
#ifndef BOWERBIRD_FLATTENER_WRITING_H
#define BOWERBIRD_FLATTENER_WRITING_H

#include <stdbool.h>
#include <stddef.h>

#include "arrow.h"
#include "core.h"

/* A column of texts. `views`: of Arrow's format "vu"; otherwise "U". `number`: its cells are numbers in a sheet. */
typedef struct {
    ArrowArray array;
    bool views, number;
} TextColumn;

typedef struct {
    char *data;
    size_t size, room;
} Output;

/* Append the rows of columns that are equally long. Return false if there is no memory. */
bool write_csv(Output *output, const TextColumn *columns, size_t count, bool guard);

/* As write_csv. `longest`: the most bytes that a text may have; *too_long is set if one has more, and nothing is of use
 * then. */
bool write_sheet(Output *output, const TextColumn *columns, size_t count, size_t longest, bool *too_long);

#endif
