/* services.flattener.native: core.c for Python. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "writing.h"

typedef struct {
    PyObject_HEAD
    Core *core;
    PyObject *ask;
    PyThreadState *waiting; /* while the core works */
    bool busy, broken;
} Flattener;

static bool ask(void *context, Core *core, int what, Text json, Text *answer) {
    Flattener *self = context;
    PyEval_RestoreThread(self->waiting);
    const char *text = NULL;
    Py_ssize_t size = 0;
    PyObject *given = PyObject_CallFunction(self->ask, "iy#", what, json.data, (Py_ssize_t)json.size);
    if (given) text = PyUnicode_AsUTF8AndSize(given, &size);
    if (text) {
        *answer = core_keep(core, text, (size_t)size);
        if (!answer->data) PyErr_NoMemory();
    }
    Py_XDECREF(given);
    self->waiting = PyEval_SaveThread();
    return answer->data != NULL;
}

static PyObject *new_flattener(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"ask", "key", NULL};
    PyObject *asked;
    const char *key;
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oy#:Flattener", names, &asked, &key, &size)) return NULL;
    if (size != 16) {
        PyErr_SetString(PyExc_ValueError, "a key has 16 bytes");
        return NULL;
    }
    Flattener *self = (Flattener *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!self) return NULL;
    uint64_t numbers[2];
    memcpy(numbers, key, sizeof numbers);
    self->ask = Py_NewRef(asked);
    self->core = core_new(ask, self, numbers);
    if (!self->core) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static int traverse(PyObject *object, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((Flattener *)object)->ask);
    return 0;
}

static int clear(PyObject *object) {
    Py_CLEAR(((Flattener *)object)->ask);
    return 0;
}

static void dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    core_free(((Flattener *)object)->core);
    clear(object);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(object);
    Py_DECREF(type);
}

static bool is_usable(Flattener *self) {
    if (self->busy || self->broken) {
        PyErr_SetString(PyExc_RuntimeError, self->busy ? "it is at work in another thread" : "it failed before");
        return false;
    }
    return true;
}

static PyObject *add(PyObject *object, PyObject *args) {
    Flattener *self = (Flattener *)object;
    PyObject *lines;
    Py_ssize_t start, cells, size;
    char *data;
    if (!PyArg_ParseTuple(args, "Snn:add", &lines, &start, &cells)) return NULL;
    if (PyBytes_AsStringAndSize(lines, &data, &size) < 0 || !is_usable(self)) return NULL;
    if (start < 0 || start > size || cells < 1) {
        PyErr_SetString(PyExc_ValueError, "start must be within the lines, and cells at least 1");
        return NULL;
    }
    size_t at = (size_t)start;
    self->busy = true;
    self->waiting = PyEval_SaveThread();
    int done = core_add(self->core, data, (size_t)size, &at, (size_t)cells);
    PyEval_RestoreThread(self->waiting);
    self->busy = false;
    if (done == CORE_DONE) return PyLong_FromSize_t(at);
    self->broken = true;
    if (done == CORE_NO_MEMORY) return PyErr_NoMemory();
    if (done == CORE_REFUSED) PyErr_Format(PyExc_ValueError, "the line that begins at byte %zu is refused", at);
    return NULL;
}

static PyObject *text(Text name) { return PyUnicode_DecodeUTF8(name.data, (Py_ssize_t)name.size, NULL); }

static PyObject *tables(PyObject *object, PyObject *Py_UNUSED(unused)) {
    Flattener *self = (Flattener *)object;
    if (!is_usable(self)) return NULL;
    PyObject *list = PyList_New(0);
    for (size_t number = 0; list && number < core_tables(self->core); number++) {
        TableInfo table = core_table(self->core, number);
        PyObject *columns = PyList_New(0);
        for (size_t each = 0; columns && each < table.columns; each++) {
            ColumnInfo column = core_column(self->core, number, each);
            PyObject *item = Py_BuildValue("(Ni)", text(column.name), (int)column.kinds);
            if (!item || PyList_Append(columns, item) < 0) Py_CLEAR(columns);
            Py_XDECREF(item);
        }
        PyObject *item = columns ? Py_BuildValue("(NnnN)", text(table.name), (Py_ssize_t)table.blank, (Py_ssize_t)table.rows, columns) : NULL;
        if (!item || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

typedef struct {
    Cells cells;
    const void *buffers[3];
} Held;

static void release_schema(ArrowSchema *schema) { schema->release = NULL; }

static void release_array(ArrowArray *array) {
    Held *held = array->private_data;
    cells_free(&held->cells);
    free(held);
    array->release = NULL;
}

static void free_schema(PyObject *capsule) {
    ArrowSchema *schema = PyCapsule_GetPointer(capsule, "arrow_schema");
    if (schema->release) schema->release(schema);
    free(schema);
}

static void free_array(PyObject *capsule) {
    ArrowArray *array = PyCapsule_GetPointer(capsule, "arrow_array");
    if (array->release) array->release(array);
    free(array);
}

/* Return a column as what __arrow_c_array__ gives. The cells are its own then, or freed. */
static PyObject *arrow(Cells cells) {
    Held *held = malloc(sizeof *held);
    ArrowArray *array = malloc(sizeof *array);
    ArrowSchema *schema = malloc(sizeof *schema);
    if (!held || !array || !schema) {
        cells_free(&cells);
        free(held);
        free(array);
        free(schema);
        return PyErr_NoMemory();
    }
    held->cells = cells;
    held->buffers[0] = cells.valid;
    held->buffers[1] = cells.offsets;
    held->buffers[2] = cells.data ? (const void *)cells.data : "";
    *array = (ArrowArray){.length = (int64_t)cells.rows,
                          .null_count = (int64_t)cells.nulls,
                          .n_buffers = 3,
                          .buffers = held->buffers,
                          .release = release_array,
                          .private_data = held};
    *schema = (ArrowSchema){.format = "U", .name = "", .flags = ARROW_NULLABLE, .release = release_schema};
    PyObject *of_array = PyCapsule_New(array, "arrow_array", free_array);
    if (!of_array) {
        array->release(array);
        free(array);
        free(schema);
        return NULL;
    }
    PyObject *of_schema = PyCapsule_New(schema, "arrow_schema", free_schema);
    if (!of_schema) free(schema);
    PyObject *pair = of_schema ? PyTuple_Pack(2, of_schema, of_array) : NULL;
    Py_XDECREF(of_schema);
    Py_DECREF(of_array);
    return pair;
}

static PyObject *take(PyObject *object, PyObject *args) {
    Flattener *self = (Flattener *)object;
    Py_ssize_t number, first, rows;
    if (!PyArg_ParseTuple(args, "nnn:take", &number, &first, &rows) || !is_usable(self)) return NULL;
    if (number < 0 || (size_t)number >= core_tables(self->core)) {
        PyErr_SetString(PyExc_IndexError, "there is no such table");
        return NULL;
    }
    TableInfo table = core_table(self->core, (size_t)number);
    if (first < 0 || rows < 0 || (size_t)first > table.rows || (size_t)rows > table.rows - (size_t)first) {
        PyErr_SetString(PyExc_IndexError, "there are no such rows");
        return NULL;
    }
    PyObject *columns = PyDict_New();
    for (size_t each = 0; columns && each < table.columns; each++) {
        Cells cells;
        int taken = core_take(self->core, (size_t)number, each, (size_t)first, (size_t)rows, &cells);
        if (!taken) continue;
        PyObject *of = PyLong_FromSize_t(each);
        PyObject *pair = taken > 0 ? arrow(cells) : PyErr_NoMemory();
        if (!of || !pair || PyDict_SetItem(columns, of, pair) < 0) Py_CLEAR(columns);
        Py_XDECREF(of);
        Py_XDECREF(pair);
    }
    if (!columns) {
        self->broken = true;
        return NULL;
    }
    if ((size_t)(first + rows) == table.rows) core_taken(self->core, (size_t)number);
    return columns;
}

/* Take over what a capsule of a stream has: texts, in one array at most. */
static bool read_column(PyObject *capsule, TextColumn *column) {
    ArrowArrayStream *stream = PyCapsule_GetPointer(capsule, "arrow_array_stream");
    ArrowSchema schema;
    if (!stream) return false;
    if (stream->get_schema(stream, &schema)) {
        PyErr_SetString(PyExc_ValueError, "the stream has no schema");
        return false;
    }
    column->views = !strcmp(schema.format, "vu");
    bool known = column->views || !strcmp(schema.format, "U");
    if (!known) PyErr_Format(PyExc_TypeError, "the column has the format %s, not vu or U", schema.format);
    schema.release(&schema);
    if (!known) return false;
    for (;;) {
        ArrowArray array;
        if (stream->get_next(stream, &array)) {
            PyErr_SetString(PyExc_ValueError, "the stream has no array");
            return false;
        }
        if (!array.release) return true;
        if (!array.length) {
            array.release(&array);
        } else if (column->array.length) {
            array.release(&array);
            PyErr_SetString(PyExc_ValueError, "the column is in several arrays");
            return false;
        } else {
            column->array = array;
        }
    }
}

static void free_columns(TextColumn *columns, size_t count) {
    for (size_t number = 0; number < count; number++) {
        if (columns[number].array.release) columns[number].array.release(&columns[number].array);
    }
    free(columns);
}

static TextColumn *read_columns(PyObject *list, size_t *count) {
    *count = (size_t)PyList_Size(list);
    TextColumn *columns = calloc(*count + 1, sizeof *columns);
    if (!columns) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t number = 0; number < *count; number++) {
        bool done = read_column(PyList_GetItem(list, (Py_ssize_t)number), &columns[number]);
        if (done && columns[number].array.length != columns->array.length) {
            PyErr_SetString(PyExc_ValueError, "the columns are not equally long");
            done = false;
        }
        if (!done) {
            free_columns(columns, *count);
            return NULL;
        }
    }
    return columns;
}

static PyObject *finished(Output *output, bool done) {
    PyObject *bytes = done ? PyBytes_FromStringAndSize(output->data, (Py_ssize_t)output->size) : PyErr_NoMemory();
    free(output->data);
    return bytes;
}

static PyObject *csv(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *list;
    int guard;
    size_t count;
    if (!PyArg_ParseTuple(args, "O!p:csv", &PyList_Type, &list, &guard)) return NULL;
    TextColumn *columns = read_columns(list, &count);
    if (!columns) return NULL;
    Output output = {NULL, 0, 0};
    bool done;
    Py_BEGIN_ALLOW_THREADS;
    done = write_csv(&output, columns, count, guard);
    free_columns(columns, count);
    Py_END_ALLOW_THREADS;
    return finished(&output, done);
}

static PyObject *sheet(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *list;
    const char *numbers;
    Py_ssize_t size, longest;
    size_t count;
    if (!PyArg_ParseTuple(args, "O!y#n:sheet", &PyList_Type, &list, &numbers, &size, &longest)) return NULL;
    if (size != PyList_Size(list)) {
        PyErr_SetString(PyExc_ValueError, "numbers must have a byte for each column");
        return NULL;
    }
    TextColumn *columns = read_columns(list, &count);
    if (!columns) return NULL;
    for (size_t number = 0; number < count; number++) columns[number].number = numbers[number];
    Output output = {NULL, 0, 0};
    bool done, too_long;
    Py_BEGIN_ALLOW_THREADS;
    done = write_sheet(&output, columns, count, (size_t)longest, &too_long);
    free_columns(columns, count);
    Py_END_ALLOW_THREADS;
    if (done && too_long) {
        free(output.data);
        Py_RETURN_NONE;
    }
    return finished(&output, done);
}

static PyMethodDef functions[] = {
    {"csv", csv, METH_VARARGS, "csv(columns, guard)\n--\n\nReturn rows as CSV. Columns are capsules of Arrow's streams."},
    {"sheet", sheet, METH_VARARGS,
     "sheet(columns, numbers, longest)\n--\n\nReturn rows as XML of a sheet, None if a text has more bytes than longest."},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef methods[] = {
    {"add", add, METH_VARARGS,
     "add(lines, start, cells)\n--\n\nAdd the records of lines, until a table has so many cells; return where it stopped."},
    {"tables", tables, METH_NOARGS, "tables()\n--\n\nReturn name, blank rows, rows and columns (name, kinds) of each table."},
    {"take", take, METH_VARARGS,
     "take(number, first, rows)\n--\n\nReturn the columns of a table that have a cell in some rows, which follow those before."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Flattener(ask, key)\n--\n\nTurns JSON Lines into the cells of tables."},
    {Py_tp_new, new_flattener},
    {Py_tp_dealloc, dealloc},
    {Py_tp_traverse, traverse},
    {Py_tp_clear, clear},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "services.flattener.native.Flattener",
    .basicsize = sizeof(Flattener),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

static int execute(PyObject *module) {
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type || PyModule_AddType(module, (PyTypeObject *)type) < 0) return -1;
    Py_DECREF(type);
    return 0;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "native",
    .m_doc = "Records of JSON Lines become the cells of tables.",
    .m_methods = functions,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit_native(void) { return PyModuleDef_Init(&definition); }
