"""Instructions and what they need of each other, equal ones only once; then the tables that the machine runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from qraft_quant.features.memory import FIRST_ARGUMENT, FIRST_LAG, Tables
from qraft_quant.features.opcodes import N_ARGUMENTS_MAX, N_CONSTANTS_MAX, Op
from qraft_quant.features.waves import Waves

# Sorting a window gives so many quantiles at once.
N_QUANTILES_MAX: Final = N_CONSTANTS_MAX - 1
_COMMUTATIVE: Final = frozenset({Op.ADD, Op.MULTIPLY, Op.LARGER, Op.SMALLER})


class Value(NamedTuple):
    """The result of an instruction, so many bars ago."""

    instruction: int
    lag: int = 0

    def before(self, n_bars: int) -> Value:
        """Return the value of n_bars earlier."""
        return Value(self.instruction, self.lag + n_bars)


@dataclass(slots=True)
class _Instruction:
    op: Op
    arguments: tuple[Value, ...]
    constants: tuple[float, ...]
    window: int  # bars that the result depends on, the newest included


@dataclass(slots=True)
class Graph:
    """The instructions of a set of features, grown by the operators. interval_s: of the grid, for the calendar."""

    inputs: tuple[str, ...]
    interval_s: int
    _instructions: list[_Instruction] = field(default_factory=list)
    _known: dict[tuple[object, ...], Value] = field(default_factory=dict)
    _sorts: dict[tuple[Value, int], list[tuple[int, list[float]]]] = field(default_factory=dict)
    _waves: Waves = field(default_factory=Waves)

    def apply(self, op: Op, *arguments: Value, constants: Sequence[float] = ()) -> Value:
        """
        Return the value of an instruction, which is added unless it is there.

        What is made of values of k bars ago is the value that was made k bars ago.
        """
        lag = self._common_lag(arguments)
        arguments = tuple(value if self.constant_of(value) is not None else value.before(-lag) for value in arguments)
        if op in _COMMUTATIVE:
            arguments = tuple(sorted(arguments))
        key = (op, arguments, tuple(constants))
        if key not in self._known:
            window = max((value.lag + self.window(value) for value in arguments), default=1)
            self._known[key] = self._add(op, arguments, constants, window)
        return self._known[key].before(lag)

    def constant(self, value: float) -> Value:
        """Return a value that never changes."""
        return self.apply(Op.CONSTANT, constants=(value,))

    def constant_of(self, value: Value) -> float | None:
        """Return what the value is if it never changes."""
        instruction = self._instructions[value.instruction]
        return instruction.constants[0] if instruction.op is Op.CONSTANT else None

    def load(self, name: str, *, is_bar: bool) -> Value:
        """Return an input."""
        return self.apply(Op.LOAD_BAR if is_bar else Op.LOAD_STATE, constants=(float(self.inputs.index(name)),))

    def wave(self, *, period_s: int, is_cosine: bool, offset_s: int) -> Value:
        """Return the sine or cosine of the time of the bar's end within a period."""
        start, step, n = self._waves.add(
            period_s=period_s, interval_s=self.interval_s, is_cosine=is_cosine, offset_s=offset_s
        )
        return self.apply(Op.WAVE, constants=(float(start), float(step), float(n)))

    def rank(self, x: Value, n_bars: int) -> Value:
        """Return the rank of x among its last n_bars values."""
        return self.apply(Op.RANK, x, x.before(n_bars - 1), constants=(float(n_bars),))

    def quantile(self, x: Value, n_bars: int, q: float) -> Value:
        """Return a quantile of the last n_bars values of x; all quantiles of one window share its sorting."""
        lag, x = x.lag, Value(x.instruction)
        key = ("quantile", x, n_bars, q)
        if key not in self._known:
            sorts = self._sorts.setdefault((x, n_bars), [])
            if not sorts or len(sorts[-1][1]) == N_QUANTILES_MAX:
                sort = self._add(Op.SORTED, (x, x.before(n_bars)), (float(n_bars),), self.window(x) + n_bars - 1)
                sorts.append((sort.instruction, []))
            at, quantiles = sorts[-1]
            quantiles.append(q)
            sort_instruction = self._instructions[at]
            picked = self._add(Op.PICKED, (), (), sort_instruction.window)
            sort_instruction.arguments += (picked,)
            sort_instruction.constants += (q,)
            self._known[key] = picked
        return self._known[key].before(lag)

    def window(self, value: Value) -> int:
        """Return how many bars an unlagged value depends on, the newest included."""
        return self._instructions[value.instruction].window

    def tables(self, features: Sequence[Value]) -> Tables:
        """Return the program that computes these values."""
        made = [self._own(value) for value in features]
        order = self._order(made)
        depth = self._depth()
        shared = self._share(order, depth, made)
        n = len(self._instructions)
        code = np.zeros((n, FIRST_ARGUMENT + 2 * N_ARGUMENTS_MAX), dtype=np.int64)
        constants = np.zeros((n, N_CONSTANTS_MAX))
        for k, instruction in enumerate(self._instructions):
            code[k, 0], code[k, 1] = instruction.op, len(instruction.arguments)
            for i, value in enumerate(instruction.arguments):
                code[k, FIRST_ARGUMENT + i] = value.instruction
                code[k, FIRST_LAG + i] = value.lag
            constants[k, : len(instruction.constants)] = instruction.constants
        return Tables(
            code=code,
            constants=constants,
            order=np.array(order, dtype=np.int64),
            features=np.array([value.instruction for value in made], dtype=np.int64),
            windows=np.array([self.window(value) for value in made], dtype=np.int64),
            waves=self._waves.table(),
            depth=np.array(depth, dtype=np.int64),
            shared=np.array(shared, dtype=np.int64),
            n_inputs=np.array([len(self.inputs)], dtype=np.int64),
        )

    def _add(self, op: Op, arguments: tuple[Value, ...], constants: Sequence[float], window: int) -> Value:
        assert len(arguments) <= N_ARGUMENTS_MAX and len(constants) <= N_CONSTANTS_MAX, (op, arguments, constants)
        self._instructions.append(_Instruction(op, arguments, tuple(constants), window))
        return Value(len(self._instructions) - 1)

    def _common_lag(self, arguments: tuple[Value, ...]) -> int:
        return min((value.lag for value in arguments if self.constant_of(value) is None), default=0)

    def _own(self, value: Value) -> Value:
        """Return the value as the newest one of an instruction: a value of some bars ago is copied."""
        if value.lag == 0:
            return value
        key = ("copy", value)
        if key not in self._known:
            self._known[key] = self._add(Op.COPY, (value,), (), value.lag + self.window(value))
        return self._known[key]

    def _read(self, k: int) -> tuple[Value, ...]:
        """Return the values that an instruction reads; of those that pick from a sorting, the sorting."""
        instruction = self._instructions[k]
        if instruction.op is Op.PICKED:
            return tuple(Value(at) for sorts in self._sorts.values() for at, _ in sorts if Value(k) in self._picks(at))
        return instruction.arguments[:2] if instruction.op is Op.SORTED else instruction.arguments

    def _picks(self, sort: int) -> tuple[Value, ...]:
        return self._instructions[sort].arguments[2:]

    def _order(self, features: Sequence[Value]) -> list[int]:
        """Return the instructions to carry out: operands first, each as late as the features' order allows."""
        order: list[int] = []
        seen: set[int] = set()
        todo = [(value.instruction, False) for value in reversed(features)]
        while todo:
            k, are_operands_done = todo.pop()
            if are_operands_done:
                order.append(k)
            elif k not in seen:
                seen.add(k)
                todo.append((k, True))
                todo.extend((value.instruction, False) for value in reversed(self._read(k)))
        return [k for k in order if self._instructions[k].op not in (Op.CONSTANT, Op.PICKED)]

    def _depth(self) -> list[int]:
        depth = [0] * len(self._instructions)
        for k in range(len(self._instructions)):
            for value in self._read(k):
                if self.constant_of(value) is None:
                    depth[value.instruction] = max(depth[value.instruction], value.lag)
        return depth

    def _share(self, order: Sequence[int], depth: Sequence[int], features: Sequence[Value]) -> list[int]:
        """
        Return, for each result that only its own tile reads, the number of the cells that it may use.

        Cells are given back after their last reader has its own, so that no result overlaps an operand.
        """
        kept = {value.instruction for value in features}
        last_reader = {value.instruction: k for k in order for value in self._read(k)}
        shared, free, n_cells = [-1] * len(depth), list[int](), 0
        for k in order:
            if depth[k] == 0 and k not in kept and self._instructions[k].op is not Op.SORTED:
                n_cells += not free
                shared[k] = free.pop() if free else n_cells - 1
            for at in {value.instruction for value in self._read(k)}:
                if shared[at] >= 0 and last_reader[at] == k:
                    free.append(shared[at])
        return shared
