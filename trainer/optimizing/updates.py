"""From gradients to moved weights: rates, loss scaling, clipping, the optimizer's step, the running mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from ..config import TrainJob
from ..seeds import stable_seed
from ..settings.optimizer import chosen_options
from ..settings.schedule import chosen_options as chosen_schedule_options
from ..trainees.trainee import Group, Trainee
from .ema import RunningMean
from .optimizers import AVERAGING, RATE_FINDING, ParameterGroups, build_optimizer, found_scale
from .parameterwise import Parameterwise
from .rounding import in_fp32
from .schedules import rate_factor
from .steps import steps_of

if TYPE_CHECKING:
    import torch


class Updates:
    """One training's optimizer and what belongs to it."""

    def __init__(self, job: TrainJob, trainee: Trainee, device: torch.device):
        import torch

        self._job, self._trainee = job, trainee
        self._step = 0
        self.optimizer = self._built()
        self._trained = trainee.parameters()
        self._scaler = torch.amp.GradScaler(device.type) if job.train.precision == "fp16" else None
        self._mean = None
        if job.optimizer.ema_decay > 0:
            self._mean = RunningMean(self._trained, job.optimizer.ema_decay, torch.device("cpu") if job.optimizer.ema_on_cpu else device)
        self._steps = steps_of(job)
        self._schedule_options = chosen_schedule_options(job.schedule)

    def _built(self) -> torch.optim.Optimizer | Parameterwise:
        job, groups = self._job, self._trainee.groups

        def build(groups: ParameterGroups) -> torch.optim.Optimizer:
            return build_optimizer(job.train.optimizer, groups, job.train.weight_decay, chosen_options(job.optimizer))

        if not _moves_singly(job):
            return build([_parameter_group(group) for group in groups])
        optimizer = Parameterwise(groups, build, lambda number: stable_seed(job.train.seed, "rounding", self._step, number))
        if job.checkpoint.fused_backward:
            optimizer.fuse()
        return optimizer

    def set_rates(self, step: int) -> None:
        """The rates of optimizer step `step`, counted from 0."""
        train, self._step = self._job.train, step
        factor = rate_factor(train.schedule, step, self._steps.total, self._steps.warmup, self._schedule_options, self._job.schedule.min_ratio)
        for group, of_group in zip(self.optimizer.param_groups, self._trainee.groups, strict=True):
            group["lr"] = of_group.rate * factor if step < of_group.until * self._steps.total else 0.0

    def rates(self) -> dict[str, float]:
        """By part, as they truly are: with Prodigy, times what it found."""
        scale = found_scale(self.optimizer)
        return {of_group.name: group["lr"] * scale for group, of_group in zip(self.optimizer.param_groups, self._trainee.groups, strict=True)}

    def found(self) -> float | None:
        """What Prodigy and its relatives have found so far, by which they multiply every rate; None for the others."""
        return found_scale(self.optimizer) if self._job.train.optimizer in RATE_FINDING else None

    def backward(self, loss: torch.Tensor) -> None:
        """Adds the gradients of `loss` to those that are there."""
        (self._scaler.scale(loss) if self._scaler else loss).backward()

    def step(self) -> bool:
        """Moves the weights and forgets the gradients. False where fp16 overflowed: then nothing moved, and the scale is halved."""
        import torch

        if self._scaler:
            self._scaler.unscale_(self.optimizer)
        if self._job.train.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(list(self._trained.values()), self._job.train.max_grad_norm)
        moved = True
        if self._scaler:
            before = self._scaler.get_scale()
            self._scaler.step(self.optimizer)
            self._scaler.update()
            moved = self._scaler.get_scale() >= before
        else:
            with self._exactly():
                self.optimizer.step()
        self._trainee.after_step()
        self.optimizer.zero_grad(set_to_none=True)
        if self._mean is not None and moved:
            self._mean.update(self._trained)
        return moved

    def _exactly(self) -> AbstractContextManager[None]:
        """Around everything that the optimizer does to the trained tensors: those in bf16 are rounded by chance afterwards."""
        if isinstance(self.optimizer, Parameterwise):
            return nullcontext()  # it does so itself, one by one
        return in_fp32(self._trained.values(), stable_seed(self._job.train.seed, "rounding", self._step))

    def begin(self) -> None:
        """To be called once, after a state was loaded and before the first step."""
        if hasattr(self.optimizer, "train"):
            with self._exactly():
                self.optimizer.train()

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the trained tensors hold what is to be saved, measured and drawn; afterwards the very same numbers as before.

        Going back by the schedule-free optimizer's own arithmetic would round, and saving would change the training.
        """
        import torch

        averages = hasattr(self.optimizer, "eval")
        if not averages and self._mean is None:
            yield
            return
        # Of a whole model there may be no second copy beside the first.
        aside = torch.device("cpu") if self._job.optimizer.ema_on_cpu else None
        kept = {name: tensor.detach().to(device=aside, copy=True) for name, tensor in self._trained.items()}
        if averages:
            with self._exactly():
                self.optimizer.eval()
        else:
            self._mean.copy_to(self._trained)
        try:
            yield
        finally:
            if averages:
                with self._exactly():
                    self.optimizer.train()
            with torch.no_grad():
                for name, tensor in self._trained.items():
                    tensor.copy_(kept[name])

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict()}
        if self._scaler:
            state["scaler"] = self._scaler.state_dict()
        if self._mean is not None:
            state["mean"] = self._mean.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # torch gives the running means the number format that the weights have at this moment.
        with self._exactly():
            self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])
        if self._mean is not None:
            self._mean.load_state_dict(state["mean"])


def _moves_singly(job: TrainJob) -> bool:
    """Whole models in bf16, whose finer copies would otherwise be in memory all at once. Some optimizers look at all weights together."""
    if job.kind != "checkpoint" or job.train.optimizer in (*RATE_FINDING, *AVERAGING):
        return False
    return job.checkpoint.fused_backward or job.checkpoint.weights == "bf16"


def _parameter_group(group: Group) -> dict[str, Any]:
    own = {} if group.weight_decay is None else {"weight_decay": group.weight_decay}
    return {"params": list(group.parameters.values()), "lr": group.rate, **own}
