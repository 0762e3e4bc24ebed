"""What is minimised, in the arguments of sd-scripts."""

from __future__ import annotations

from typing import Any

from ...config import TrainJob

_SAMPLINGS = {"shifted": "shift", "resolution_shifted": "flux_shift"}


def objective_arguments(job: TrainJob, notes: list[str]) -> dict[str, Any]:
    objective = job.objective
    pairs = (
        ("min_snr_gamma", objective.min_snr_gamma if objective.weighting == "min_snr" else 0),
        ("debiased_estimation_loss", objective.weighting == "debiased"),
        ("noise_offset", objective.noise_offset),
        ("noise_offset_random_strength", objective.noise_offset_random),
        ("adaptive_noise_scale", objective.adaptive_noise_scale),
        ("multires_noise_iterations", objective.multires_iterations),
        ("multires_noise_discount", objective.multires_discount if objective.multires_iterations else 0),
        ("ip_noise_gamma", objective.input_perturbation),
        ("ip_noise_gamma_random_strength", objective.input_perturbation_random),
        ("min_timestep", objective.min_timestep),
        ("max_timestep", objective.max_timestep if objective.max_timestep != 1000 else 0),
        ("masked_loss", any(sample.mask for sample in job.dataset.samples) and objective.masked_loss != "off"),
        ("prior_loss_weight", objective.regularization_weight if objective.regularization_weight != 1 else 0),
        ("zero_terminal_snr", objective.zero_terminal_snr == "on" or (objective.zero_terminal_snr == "auto" and job.base.zero_terminal_snr)),
    )
    found: dict[str, Any] = {key: value for key, value in pairs if value}
    if objective.loss != "mse":
        found["loss_type"] = objective.loss
    if objective.loss in ("huber", "smooth_l1"):
        schedule = ("exponential" if job.base.prediction == "flow" else "snr") if objective.huber_schedule == "auto" else objective.huber_schedule
        found |= {"huber_schedule": schedule, "huber_c": objective.huber_c, "huber_scale": objective.huber_scale}
    if job.base.prediction == "flow":
        found |= flow_arguments(job) if job.kind != "embedding" else {}
    elif objective.timestep_sampling not in ("auto", "uniform"):
        notes.append(f"Times are drawn uniformly there, not by {objective.timestep_sampling}.")
    if objective.masked_loss == "normalized":
        notes.append("The masked loss counts as plain there.")
    for name in ("unmasked_weight", "concept_weights"):
        if getattr(objective, name):
            notes.append(f"The objective's {name} is not known there.")
    return found


def flow_arguments(job: TrainJob) -> dict[str, Any]:
    """How sd-scripts calls the times of a job on a rectified flow."""
    objective, kind = job.objective, job.objective.timestep_sampling
    scheme: dict[str, Any] = {"weighting_scheme": kind} if kind in ("mode", "uniform") else {"weighting_scheme": "logit_normal"}
    if kind == "mode":
        scheme["mode_scale"] = objective.mode_scale
    elif kind != "uniform":
        scheme |= {"logit_mean": objective.logit_mean, "logit_std": objective.logit_std}
    if job.base.family != "flux":
        return scheme | ({"training_shift": objective.shift} if kind == "shifted" else {})
    found: dict[str, Any] = {"model_prediction_type": "raw", "guidance_scale": 1.0}
    if kind in ("logit_normal", "mode"):
        # There the times of sigma are counted from strong noise down.
        mirrored = {"logit_mean": -objective.logit_mean if objective.logit_mean else 0.0} if kind == "logit_normal" else {}
        return found | scheme | mirrored | {"timestep_sampling": "sigma", "discrete_flow_shift": 1.0}
    found["timestep_sampling"] = "flux_shift" if kind == "auto" else _SAMPLINGS.get(kind, kind)
    if kind in ("sigmoid", "shifted", "resolution_shifted"):
        found["sigmoid_scale"] = objective.logit_std
    return found | ({"discrete_flow_shift": objective.shift} if kind == "shifted" else {})
