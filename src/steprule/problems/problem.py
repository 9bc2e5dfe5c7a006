"""A problem: what is trained, and the ways to make one of arrays, tables, files and loaders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor, nn

from steprule.keywords import shows
from steprule.problems.options import ARRAY_DEFAULTS, DEFAULTS, ArrayOptions, Options
from steprule.problems.task import Task

Model = Callable[..., nn.Module]
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True, eq=False, repr=False)
class Problem(Task):
    """What is trained: `loss(model(features), targets)` is minimised over the model's parameters.

    A problem of one's own is this record around an ordinary `nn.Module`, tensors and a loss; `from_arrays` makes one of whatever holds
    the data.

    >>> import torch
    >>> from torch.nn.functional import mse_loss
    >>> x = torch.randn(60, 3)
    >>> mine = Problem("mine", "a line", x[:40], x[:40].sum(1, keepdim=True), lambda: nn.Linear(3, 1), mse_loss)
    """

    @classmethod
    @shows(ArrayOptions, ARRAY_DEFAULTS)
    def from_arrays(
        cls, features: Any, targets: Any, model: Model, loss: Loss | None = None, **options: Unpack[ArrayOptions]
    ) -> Problem:
        """A problem from numpy arrays, tables (pandas, polars, pyarrow), tensors or lists; a few rows are tried at once.

        Floats take the dtype of the model's parameters, float32 as a rule. A table's columns become one float tensor [rows, columns];
        an array of whole numbers stays one, for a model that embeds them. Text becomes the place of its category in sorted order, which
        `Problem.categories` tells; truth values become 0 and 1. A missing or infinite value is refused with its column and row.

        Args:
            features: [rows, ...]; or several inputs, as a tuple for `model(a, b)` or a dict for `model(a=..., b=...)`.
            targets: [rows, ...]; or, where the features are a table, the name of its column, or a list of names. None where a training
                step finds them among the features.
            model: a function that makes a fresh model; or one of (inputs, outputs), as `nn.Linear` is, which gets the number of feature
                columns, and of classes or target columns.
            loss: of the outputs and the targets. None chooses by the targets: mean squared error for floats, which then take the
                outputs' shape where that is [rows, 1], and cross entropy for whole numbers, truth values and text.
            options: by keyword, any of these:

                - `name="mine"`: in results and errors.
                - `summary=""`: a line on it; the number of rows where none is given.
                - `split=None`: what is held out: shares such as (0.8, 0.2) for train and validation or (0.6, 0.2, 0.2) with test; or
                  for each row "train", "validation" or "test", as an array or a table's column; or a dict of row numbers or masks by
                  part.
                - `groups=None`: for each row what it belongs to, as an array or a table's column: with shares, a group is in one part
                  alone.
                - `shuffle=True`: draw the rows of a share; False takes them in order.
                - `split_seed=0`: of that draw. The same data and seed give the same split.
                - `validation=None`: a pair (features, targets), where it is apart already.
                - `test=None`: the same.
                - `columns=None`: of a table, the features; all columns that are not named otherwise, if not given.
                - `standardize=False`: bring every float feature to mean 0 and standard deviation 1 of the training rows.
                - `metrics=()`: beside the loss: names of `steprule.metrics`, functions of (outputs, targets), or a dict of them by
                  name.
                - `training_step=None`: in place of a loss (see `Problem.training_step`).
                - `batch_size=32`: samples per step, 1 or more.
                - `epochs=10`: passes over the data, 1 or more.
                - `floor=None`: the least loss there is, where it is known.

        Raises:
            StepruleError: in one line, what does not fit, with its place.

        >>> import numpy as np
        >>> rows = np.random.default_rng(0).normal(size=(60, 3))
        >>> mine = Problem.from_arrays(rows, rows.sum(axis=1), nn.Linear, split=(0.6, 0.2, 0.2), metrics="r2")
        >>> mine.summary, list(mine.targets.shape)
        ('36 rows to train on, 12 for validation, 12 for test', [36, 1])
        """
        from steprule.problems import given  # pyarrow, which reads tables, takes a while

        return given.from_arrays(cls, features, targets, model, loss, options)

    @classmethod
    @shows(ArrayOptions, ARRAY_DEFAULTS)
    def from_csv(
        cls, path: str | Path, target: str | list[str], model: Model, loss: Loss | None = None, *, delimiter: str | None = None,
        decimal: str = ".", encoding: str = "utf-8", **options: Unpack[ArrayOptions],
    ) -> Problem:  # fmt: skip
        """A problem from a CSV file with a header; `steprule.train("adam", problem)` and a few rows are tried at once.

        Args:
            path: of the file.
            target: the name of the target's column, or a list of names.
            model: as in `from_arrays`; `nn.Linear`, say, gets the number of feature columns, and of classes or target columns.
            loss: as in `from_arrays`.
            delimiter: between fields; the one of `,` `;` tab `|` that the header has most often, if not given.
            decimal: what stands before decimals, "." or ",".
            encoding: of the file's text.
            options: as in `from_arrays`: `split`, `groups` and `columns` name columns; `name` is the file's if not given.

        Raises:
            StepruleError: in one line, what cannot be read, with its column and line.

        >>> _ = Path("heights.csv").write_text("age,kind,height\\n1,a,75\\n2,b,86\\n3,a,95\\n")
        >>> Problem.from_csv("heights.csv", "height", nn.Linear).categories
        {'kind': ('a', 'b')}
        >>> Path("heights.csv").unlink()
        """
        from steprule.problems import reading

        lines = reading.read_csv(path, delimiter, decimal, encoding)
        return cls.from_arrays(lines, target, model, loss, **_named_after(path, options))

    @classmethod
    @shows(ArrayOptions, ARRAY_DEFAULTS)
    def from_parquet(
        cls, path: str | Path, target: str | list[str], model: Model, loss: Loss | None = None, **options: Unpack[ArrayOptions]
    ) -> Problem:  # fmt: skip
        """The same from a Parquet file."""
        from steprule.problems import reading

        return cls.from_arrays(reading.read_parquet(path), target, model, loss, **_named_after(path, options))

    @classmethod
    @shows(Options, DEFAULTS)
    def from_dataloaders(
        cls, train: Any, model: Callable[[], nn.Module], loss: Loss | None = None, **options: Unpack[Options]
    ) -> Problem:
        """A problem from torch's DataLoaders as they are: their batches, collate functions, augmentation and workers.

        In pass e of a training with seed s, from 0, everything that the loader draws begins at `stream(s, (1, e))`: torch's, numpy's and
        Python's global generators, and those that the loader, its sampler or its dataset holds. So every optimizer sees the same
        batches, and the caller's generators stay as they were. A loader is measured in its own batches, on the pass of `stream(0, 3)`;
        a loss that is neither a mean nor a sum over samples is the mean over batches, weighted by their samples. One first pass
        counts them.

        Args:
            train: a DataLoader, or whatever gives the batches of a pass each time it is iterated.
            model: a function that makes a fresh model.
            loss: of the outputs and the targets, where a batch is a pair (features, targets).
            options: by keyword, any of these:

                - `training_step=None`: in place of a loss, for any batch (see `Problem.training_step`).
                - `validation=None`: as `train`; None where nothing is held out.
                - `test=None`: the same.
                - `metrics=()`: as in `from_arrays`; tried when it is first trained.
                - `name="mine"`: in results and errors.
                - `summary=""`: a line on it.
                - `epochs=10`: passes over the data, 1 or more.
                - `floor=None`: the least loss there is, where it is known.

        Raises:
            StepruleError: in one line, what does not fit; the first batch of each loader is tried at once.

        >>> import torch
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> rows = torch.randn(60, 3)
        >>> loader = DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=10, shuffle=True)
        >>> mine = Problem.from_dataloaders(loader, lambda: nn.Linear(3, 1), nn.functional.mse_loss)
        >>> mine.batch_size, mine.samples
        (10, 60)
        """
        from steprule.problems import given

        return given.from_dataloaders(cls, train, model, loss, options)


def _named_after(path: str | Path, options: ArrayOptions) -> ArrayOptions:
    """The options, with the file's name where it has no other."""
    return {"name": Path(path).stem, **options}
