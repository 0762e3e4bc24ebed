"""What is minimised, out of sd-scripts' min_snr_gamma, noise_offset, loss_type, timestep_sampling, weighting_scheme…"""

from __future__ import annotations

from typing import Any

from .sheet import Sheet

_OFFSETS = ("noise_offset", "adaptive_noise_scale", "multires_noise_iterations")
_SIGNS_OF_FLUX = ("flux1_checkbox", "timestep_sampling", "model_prediction_type", "discrete_flow_shift", "guidance_scale", "ae")
_SIGNS = (*_SIGNS_OF_FLUX, "sd3_checkbox", "weighting_scheme", "training_shift", "clip_g", "sd3_clip_l", "sd3_t5xxl")
_LIKE_UNIFORM = 1.7
"""A sigmoid of a normal draw with this spread is nearest to uniform (as the probit is to the logit; Camilli 1994)."""
_SAMPLINGS = {"sigmoid": "sigmoid", "uniform": "uniform", "shift": "shifted", "flux_shift": "resolution_shifted"}


def is_whole_flow(sheet: Sheet) -> bool:
    """Whether it is for flux_train.py or sd3_train.py, which leave the text encoders alone."""
    return not sheet.has("network_module") and is_flow(sheet)


def is_flow(sheet: Sheet) -> bool:
    """Whether the file trains FLUX or SD3, as far as it says so."""
    module, kind = sheet.text("network_module"), sheet.text("model_train_type")
    return module.endswith(("_flux", "_sd3")) or kind.startswith(("flux", "sd3")) or any(sheet.on(key) for key in _SIGNS)


def is_flux(sheet: Sheet) -> bool:
    module, kind = sheet.text("network_module"), sheet.text("model_train_type")
    if module.endswith("_sd3") or kind.startswith("sd3") or sheet.on("sd3_checkbox"):
        return False
    return module.endswith("_flux") or kind.startswith("flux") or any(sheet.on(key) for key in _SIGNS_OF_FLUX)


def translate_objective(sheet: Sheet) -> None:
    if is_flow(sheet):
        for key in ("min_snr_gamma", "debiased_estimation_loss", "zero_terminal_snr", *_OFFSETS):
            if sheet.on(key):
                sheet.tell("not needed", key, "it is for models that predict noise or v; sd-scripts does not read it for FLUX and SD3 either.")
        sheet.drop(
            "min_snr_gamma", "debiased_estimation_loss", "zero_terminal_snr", "noise_offset_random_strength", "multires_noise_discount", *_OFFSETS
        )
        _rest(sheet)
    else:
        _weighting(sheet)
        _rest(sheet)


def _weighting(sheet: Sheet) -> None:
    if sheet.on("min_snr_gamma"):
        sheet.take("min_snr_gamma", "objective.weighting", "min_snr")
        sheet.take("min_snr_gamma", "objective.min_snr_gamma")
        if sheet.flag("debiased_estimation_loss"):
            sheet.leave("debiased_estimation_loss", "there is one weighting at a time; min_snr is taken.")
    elif sheet.flag("debiased_estimation_loss"):
        sheet.take("debiased_estimation_loss", "objective.weighting", "debiased")
    if sheet.on("noise_offset") and sheet.flag("noise_offset_random_strength"):
        sheet.take("noise_offset_random_strength", "objective.noise_offset_random", True)
    if sheet.on("multires_noise_iterations") and sheet.has("multires_noise_discount"):
        sheet.take("multires_noise_discount", "objective.multires_discount")
    if sheet.flag("zero_terminal_snr"):
        sheet.take("zero_terminal_snr", "objective.zero_terminal_snr", "on")
    sheet.drop("debiased_estimation_loss", "noise_offset_random_strength", "zero_terminal_snr")


def _rest(sheet: Sheet) -> None:
    if sheet.on("ip_noise_gamma") and sheet.flag("ip_noise_gamma_random_strength"):
        sheet.take("ip_noise_gamma_random_strength", "objective.input_perturbation_random", True)
    if sheet.on("max_timestep") and sheet.text("max_timestep") != "1000":
        sheet.take("max_timestep", "objective.max_timestep")
    if sheet.flag("masked_loss"):
        sheet.tell("elsewhere", "masked_loss", "choose the masks in Load Dataset.")
    if sheet.has("prior_loss_weight") and sheet.number("prior_loss_weight") != 1:
        sheet.take("prior_loss_weight", "objective.regularization_weight")
    _loss(sheet)
    _times(sheet)
    sheet.drop("ip_noise_gamma_random_strength", "max_timestep", "masked_loss", "prior_loss_weight", "noise_offset_type")


def _loss(sheet: Sheet) -> None:
    told = {"l2": "mse"}.get(sheet.text("loss_type"), sheet.text("loss_type"))
    if told and told != "mse":
        sheet.take("loss_type", "objective.loss", told)
    if told in ("huber", "smooth_l1"):
        for key in ("huber_schedule", "huber_c", "huber_scale"):
            if sheet.on(key) and not (key == "huber_scale" and (sheet.text("huber_schedule") or "snr") == "snr"):
                sheet.take(key, f"objective.{key}")
    sheet.drop("loss_type", "huber_schedule", "huber_c", "huber_scale")


def _times(sheet: Sheet) -> None:
    """FLUX says timestep_sampling, SD3.5 weighting_scheme: here both are the timestep sampling."""
    if is_flow(sheet) and is_flux(sheet):
        told = sheet.text("timestep_sampling") or "sigma"
        if told == "sigma":
            _by_scheme(sheet, "timestep_sampling", sheet.number("discrete_flow_shift") if sheet.has("discrete_flow_shift") else 3.0, mirrored=True)
        elif told in _SAMPLINGS:
            sheet.take("timestep_sampling", "objective.timestep_sampling", _SAMPLINGS[told])
            if told == "shift" and sheet.has("discrete_flow_shift"):
                sheet.take("discrete_flow_shift", "objective.shift")
            if told != "uniform" and sheet.has("sigmoid_scale"):
                sheet.take("sigmoid_scale", "objective.logit_std")
        else:
            sheet.leave("timestep_sampling", f"{told} is not known here; choose one in Objective Settings.")
    elif is_flow(sheet):
        _by_scheme(sheet, "weighting_scheme", sheet.number("training_shift") if sheet.has("training_shift") else 1.0, mirrored=False)
    if sheet.on("guidance_scale") and sheet.number("guidance_scale") != 1:
        sheet.leave("guidance_scale", "FLUX is trained at guidance 1.")
    sheet.drop("timestep_sampling", "weighting_scheme", "logit_mean", "logit_std", "mode_scale", "discrete_flow_shift", "training_shift")
    sheet.drop("sigmoid_scale", "guidance_scale")


def _by_scheme(sheet: Sheet, key: str, shift: float | None, mirrored: bool) -> None:
    """A weighting_scheme whose times are shifted afterwards; `mirrored` where it counts them from strong noise down, as FLUX's sigma does."""
    scheme, mean, std = (
        sheet.text("weighting_scheme"),
        sheet.number("logit_mean") or 0.0,
        sheet.number("logit_std") if sheet.has("logit_std") else 1.0,
    )
    if scheme in ("sigma_sqrt", "cosmap"):
        sheet.leave("weighting_scheme", f"{scheme} weighs the loss, which is not known here; choose the timestep sampling in Objective Settings.")
        return
    scheme = scheme if scheme in ("logit_normal", "mode") else "uniform"

    def put(name: str, value: Any) -> None:
        if sheet.has(key):
            sheet.take(key, f"objective.{name}", value)
        else:
            sheet.imply(f"objective.{name}", value, f"{key} of sd-scripts, as usual")

    if shift in (None, 1.0):
        put("timestep_sampling", scheme)
        if scheme == "logit_normal":
            put("logit_mean", -mean if mirrored and mean else mean)
            put("logit_std", std)
        elif scheme == "mode" and sheet.has("mode_scale"):
            sheet.take("mode_scale", "objective.mode_scale")
    elif scheme == "mode" or (scheme == "logit_normal" and mean):
        sheet.leave(key, f"{scheme} with a shift of {shift:g} is not known here; choose the timestep sampling in Objective Settings.")
    else:
        put("timestep_sampling", "shifted")
        put("shift", shift)
        put("logit_std", std if scheme == "logit_normal" else _LIKE_UNIFORM)
        if scheme == "uniform":
            sheet.warn(key, "uniform times with a shift; shifted is within a hundredth of them with this spread.")
