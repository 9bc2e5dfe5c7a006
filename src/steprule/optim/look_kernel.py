"""The compiled look at every tensor of a step, as functions of words.

scan.py loads it through the cache of kernels. It reads records where layout_search.py found things, and compares before it follows: an
object's type before its record, a record's keys before its storage. All arguments are addresses and numbers. Nothing here writes to a
tensor but `finish`.

Numba compiles, caches and calls the four functions at the end; what they call is translated by `compiler/words.py`.
"""

from numba import njit

from steprule.compiler.words import byte, call, compiled, narrow, poke, poke32, prefetch, widen, word, word32
from steprule.optim.layout import Offsets

AT = Offsets()  # scan.py puts those of this torch and Python here

(
    H_TENSOR, H_PARAMETER, H_UNDEFINED, H_OWN_DELETER, H_MEMBERS, H_TENSORS, H_COLUMNS, H_NUMBERS, H_WORDS, H_WRITES_G,
    H_IN_STATES, H_GIVEN, H_TAG, H_TAKE, H_RELEASE, H_NEW, H_ASSIGN, H_DELETE, H_SCRATCH,
    H_PRESENT, H_SEEN, H_OBJECTS, H_DICTS, H_ADDRESSES, H_VERSIONS, H_VALUES, H_HELD, H_RECORDS,
) = range(0, 224, 8)  # fmt: skip
"""Where the head has: the two plain types; the sign for no gradient; what frees torch's own memory; how many members, tensors,
columns, columns of numbers, and words of a row there are; whether gradients are written, whether there are states to look at, whether
the objects were given by the caller; the tag of the dict of states; five C functions, which take and release a Python object, and
for a tensor that has none make an empty handle, assign the tensor to it and delete it; a word to write to; and the addresses of the
arrays that ScannedLook describes."""

V_TABLE, R_KIND, R_KEYS, R_AXES, R_SIZE, R_SPAN, R_SHAPE = range(0, 56, 8)
"""Where a row of `seen` has: the record's class, its dtype and device, its keys, its axes, an element's bytes, the elements from the
first to the last, and from there on all sizes, then all strides."""

INLINE = 5
SAME, MOVED, CHANGED = 0, 1, 2
RESTING = -1
WHOLE, INFINITY = 0x4170000000000000, 0x7FF0000000000000
"""The bits of 2^24 in float64, up to where float32 has each whole number, and of infinity: numbers above 0 compare as their bits do."""
AHEAD, SOON = 12, 6
"""For how many tensors memory is asked ahead of its use, first the record, then what it points to: a step's own work has driven them
out of the nearer caches."""

OPTIONS = {"nogil": False, "error_model": "numpy", "cache": True, "no_cfunc_wrapper": True}


def _is_plain_type(head, obj):
    kind = word(obj + 8)
    return kind == word(head + H_TENSOR) or kind == word(head + H_PARAMETER)


def _note(record, size, row):
    axes = word(record + AT.axes)
    sizes = word(record + AT.sizes) if axes > INLINE else record + AT.sizes
    strides = sizes + 8 * axes if axes > INLINE else record + AT.strides
    poke(row + V_TABLE, word(record))
    poke(row + R_KIND, word(record + AT.kind) & AT.kind_mask)
    poke(row + R_KEYS, word(record + AT.keys))
    poke(row + R_AXES, axes)
    poke(row + R_SIZE, size)
    span = 1
    for d in range(axes):
        length, stride = word(sizes + 8 * d), word(strides + 8 * d)
        poke(row + R_SHAPE + 8 * d, length)
        poke(row + R_SHAPE + 8 * (axes + d), stride)
        span = 0 if length == 0 or span == 0 else span + (length - 1) * stride
    poke(row + R_SPAN, span)


def _address(record, row):
    """The address of the first element of a record that is as its row says; -1 where anything differs."""
    if word(record) != word(row + V_TABLE) or word(record + AT.keys) != word(row + R_KEYS):
        return -1
    if word(record + AT.kind) & AT.kind_mask != word(row + R_KIND):
        return -1
    axes = word(row + R_AXES)
    if word(record + AT.axes) != axes:
        return -1
    sizes = word(record + AT.sizes) if axes > INLINE else record + AT.sizes
    strides = sizes + 8 * axes if axes > INLINE else record + AT.strides
    for d in range(axes):
        if word(sizes + 8 * d) != word(row + R_SHAPE + 8 * d):
            return -1
        if word(strides + 8 * d) != word(row + R_SHAPE + 8 * (axes + d)):
            return -1
    storage = word(record + AT.storage)
    if storage == 0 or byte(storage + AT.guard) != 0:
        return -1
    first, span, size = word(record + AT.first), word(row + R_SPAN), word(row + R_SIZE)
    if first < 0 or (first + span) * size > word(storage + AT.bytes):
        return -1
    data = word(storage + AT.data)
    if span == 0:
        return 0
    return data + first * size if data != 0 else -1


def _alone(head, record):
    """Whether no other tensor can share the memory: it has one holder, and torch allocated it."""
    storage = word(record + AT.storage)
    if word32(storage + AT.owners) != 1:
        return False
    return word(storage + AT.deleter) == word(head + H_OWN_DELETER)


def _still_there(head, members, states):
    """Whether the list has the same members, those at rest have no gradient, and no dict of states has changed."""
    count = word(head + H_MEMBERS)
    if word(members + AT.list_size) != count:
        return False
    if word(head + H_IN_STATES) != 0:
        # The dict has not changed, so each state is the dict that it was; a state has not changed, so its tensors are alive.
        if word(states + AT.dict_tag) != word(head + H_TAG):
            return False
        dicts, tensors = word(head + H_DICTS), word(head + H_TENSORS)
        for i in range(tensors):
            if word(word(dicts + 8 * i) + AT.dict_tag) != word(dicts + 8 * (tensors + i)):
                return False
    items, present = word(members + AT.list_items), word(head + H_PRESENT)
    for m in range(count):
        obj = word(items + 8 * m)
        if obj != word(present + 8 * m):
            return False
        if word(present + 8 * (count + m)) == RESTING:
            if not _is_plain_type(head, obj):
                return False
            autograd = word(word(obj + AT.record) + AT.autograd)
            if autograd != 0 and word(autograd + AT.gradient) != word(head + H_UNDEFINED):
                return False
    return True


def _find_records(head):
    """Fill in each tensor's record, the gradients' through their parameters'; False where a type or a gradient is not as it was."""
    tensors, count = word(head + H_TENSORS), word(head + H_COLUMNS) * word(head + H_TENSORS)
    objects, records, given = word(head + H_OBJECTS), word(head + H_RECORDS), word(head + H_GIVEN)
    for k in range(count):
        if k + AHEAD < count:
            prefetch(word(objects + 8 * (k + AHEAD)) + 8)
        obj = word(objects + 8 * k)
        if given == 0 and tensors <= k and k < 2 * tensors:
            continue
        if not _is_plain_type(head, obj):
            return False
        poke(records + 8 * k, word(obj + AT.record))
    if given != 0:
        return True
    undefined = word(head + H_UNDEFINED)
    for i in range(tensors):
        if i + AHEAD < tensors:
            prefetch(word(records + 8 * (i + AHEAD)) + AT.autograd)
            prefetch(word(word(records + 8 * (i + SOON)) + AT.autograd) + AT.gradient)
        # A record without autograd's has 0 there; one without a gradient has the sign for none.
        autograd = word(word(records + 8 * i) + AT.autograd)
        if autograd == 0:
            return False
        record = word(autograd + AT.gradient)
        if record == undefined:
            return False
        obj = word(record + AT.wrapper) & -8
        if obj != 0 and not _is_plain_type(head, obj):
            return False
        poke(records + 8 * (tensors + i), record)
    return True


def _hold_all(head):
    """One more holder for every tensor; a gradient that no Python object stands for gets a handle, which is marked by a bit."""
    tensors, objects, held = word(head + H_TENSORS), word(head + H_OBJECTS), word(head + H_HELD)
    records = word(head + H_RECORDS)
    for k in range(word(head + H_COLUMNS) * tensors):
        obj = word(objects + 8 * k)
        if tensors <= k and k < 2 * tensors:
            record = word(records + 8 * k)
            obj = word(record + AT.wrapper) & -8
            if obj == 0:
                poke(head + H_SCRATCH, record)
                call(word(head + H_NEW), held + 8 * k, 0)
                call(word(head + H_ASSIGN), head + H_SCRATCH, word(held + 8 * k))
                poke(held + 8 * k, word(held + 8 * k) | 1)
                continue
        call(word(head + H_TAKE), obj, 0)
        poke(held + 8 * k, obj)


def _look(head, members, states, hold):
    if word(head + H_GIVEN) == 0 and not _still_there(head, members, states):
        return CHANGED
    if not _find_records(head):
        return CHANGED
    result = SAME
    tensors, columns, numbers = word(head + H_TENSORS), word(head + H_COLUMNS), word(head + H_NUMBERS)
    stride, writes_g, records = 8 * word(head + H_WORDS), word(head + H_WRITES_G), word(head + H_RECORDS)
    addresses, versions = word(head + H_ADDRESSES), word(head + H_VERSIONS)
    row, count, first_number = word(head + H_SEEN), columns * tensors, (columns - numbers) * tensors
    for k in range(count):
        if k + AHEAD < count:
            ahead = word(records + 8 * (k + AHEAD))
            for line in range(0, AT.keys + 8, 64):
                prefetch(ahead + line)
            storage = word(word(records + 8 * (k + SOON)) + AT.storage)
            prefetch(storage + AT.data)
            prefetch(storage + AT.guard)
        record, at = word(records + 8 * k), 8 * k
        address = _address(record, row)
        if address == -1:
            return CHANGED
        if address != word(addresses + at):
            poke(addresses + at, address)
            if k < tensors or k >= 2 * tensors or writes_g != 0 or not _alone(head, record):
                result = MOVED
        counter = word(record + AT.version)
        poke(versions + at, counter + AT.number if counter != 0 else 0)
        if k >= first_number:
            value = word(head + H_VALUES) + 8 * (k - first_number)
            if word(row + R_SIZE) == 4:
                widen(value, address)
            else:
                poke(value, word(address))
        row += stride
    if hold != 0:
        _hold_all(head)
    return result


def _let_go(head):
    held = word(head + H_HELD)
    for k in range(word(head + H_COLUMNS) * word(head + H_TENSORS)):
        obj = word(held + 8 * k)
        poke(held + 8 * k, 0)
        if obj & 1:
            call(word(head + H_DELETE), obj - 1, 0)
        elif obj != 0:
            call(word(head + H_RELEASE), obj, 0)


def _finish(head):
    rounded = 0
    tensors, columns, numbers = word(head + H_TENSORS), word(head + H_COLUMNS), word(head + H_NUMBERS)
    stride, writes_g = 8 * word(head + H_WORDS), word(head + H_WRITES_G)
    addresses, versions, values = word(head + H_ADDRESSES), word(head + H_VERSIONS), word(head + H_VALUES)
    first = (columns - numbers) * tensors
    row = word(head + H_SEEN) + stride * first
    for k in range(numbers * tensors):
        at = word(addresses + 8 * (first + k))
        if word(row + R_SIZE) == 4:
            narrow(at, values + 8 * k)
            rounded += WHOLE < word(values + 8 * k) <= INFINITY
        else:
            poke(at, word(values + 8 * k))
        row += stride
    for k in range(columns * tensors):
        if writes_g == 0 and tensors <= k and k < 2 * tensors:
            continue
        at = word(versions + 8 * k)
        if at != 0:
            poke32(at, word32(at) + 1)
    return rounded


_RUN_NOTE, _RUN_LOOK, _RUN_LET_GO, _RUN_FINISH = map(compiled, (_note, _look, _let_go, _finish))


@njit("int64(int64, int64, int64)", **OPTIONS)
def note(record, size, row):
    """Write what a record says into a row of `seen`; `size` are an element's bytes."""
    return _RUN_NOTE((record, size, row))


@njit("int64(int64, int64, int64, int64)", **OPTIONS)
def look(head, members, states, hold):
    """SAME; MOVED where memory that is written has moved, or a gradient that could share memory; CHANGED.

    `members`, `states`: the list of parameters and the dict of their states. Addresses, versions and values are filled on the way.
    With `hold`, all tensors are kept alive until `let_go`: whatever runs before the launch has ended may drop a gradient.
    """
    return _RUN_LOOK((head, members, states, hold))


@njit("int64(int64)", **OPTIONS)
def let_go(head):
    """Release what a look has held."""
    return _RUN_LET_GO((head,))


@njit("int64(int64)", **OPTIONS)
def finish(head):
    """Write the values to the states of one number, and raise the versions of all that a step writes.

    How many values beyond 2^24 were rounded to float32: a count among them would stand still.
    """
    return _RUN_FINISH((head,))
