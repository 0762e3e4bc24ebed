"""What is minimised: the loss, its weights, the noise and the times at which it is measured."""

from __future__ import annotations

from dataclasses import dataclass

from .field import setting


@dataclass(frozen=True)
class ObjectiveSettings:
    weighting: str = setting(
        "none",
        "How much each noise level counts. min_snr learns faster and steadier; debiased favours strong noise. Both are for models that predict noise or v.",
        choices=("none", "min_snr", "debiased"),
    )
    min_snr_gamma: float = setting(5.0, "Strength of min_snr: lower is stronger. 5 is the paper's, 1 is usual for v prediction.", 0.01, 100.0)
    noise_offset: float = setting(
        0.0, "Lets the model learn darker and brighter pictures. 0.03 to 0.1; 0 is off. For models that predict noise or v.", 0.0, 1.0, step=0.001
    )
    timestep_sampling: str = setting(
        "auto",
        "Which noise levels are trained most. auto: as the model was made. logit_normal, sigmoid and mode favour the middle; shifted favours strong noise.",
        choices=("auto", "uniform", "logit_normal", "sigmoid", "mode", "shifted", "resolution_shifted"),
    )
    shift: float = setting(
        3.0, "How far shifted goes towards strong noise: 3 is usual for FLUX and SD3, 1 is none. For rectified flows.", 0.01, 100.0
    )
    masked_loss: str = setting(
        "plain",
        "For images with a mask. plain: the masked part alone counts, small parts less. normalized: small parts count as much as large ones. off: no masks.",
        choices=("plain", "normalized", "off"),
    )
    regularization_weight: float = setting(
        1.0, "How much regularization images count beside the others. Usual: 1, the same; lower where they hold the training back.", 0.0, 100.0
    )
    loss: str = setting(
        "mse",
        "How an error is measured. mse is usual; huber and smooth_l1 care less about images that do not fit in; l1 the least.",
        choices=("mse", "l1", "huber", "smooth_l1"),
        advanced=True,
    )
    huber_schedule: str = setting(
        "auto",
        "Of huber and smooth_l1: how the threshold follows the noise. auto: snr, or exponential where the model has none.",
        choices=("auto", "constant", "exponential", "snr"),
        advanced=True,
    )
    huber_c: float = setting(
        0.1, "Of huber and smooth_l1: the threshold, above which errors count less. 0.1 is usual.", 0.0001, 1.0, step=0.001, advanced=True
    )
    huber_scale: float = setting(
        1.0, "Of huber and smooth_l1: multiplies the threshold of constant and exponential. 1 is usual.", 0.001, 100.0, advanced=True
    )
    logit_mean: float = setting(0.0, "Of logit_normal: above 0 favours strong noise, below 0 weak noise. Usual: 0.", -5.0, 5.0, advanced=True)
    logit_std: float = setting(
        1.0, "Of logit_normal, sigmoid and the shifted ones: lower keeps closer to the middle. 1 is usual.", 0.01, 5.0, advanced=True
    )
    mode_scale: float = setting(1.29, "Of mode: higher favours the middle more. 1.29 is the paper's.", -1.0, 1.75, advanced=True)
    min_timestep: int = setting(0, "Noise levels below this of 1000 are not trained. Usual: 0, so that all are.", 0, 999, advanced=True)
    max_timestep: int = setting(1000, "Noise levels from this of 1000 on are not trained. Usual: 1000, so that all are.", 1, 1000, advanced=True)
    adaptive_noise_scale: float = setting(
        0.0,
        "Adds to the noise offset by how bright or dark the image itself is, times this. Usual: a tenth of the offset; 0 is off.",
        -1.0,
        1.0,
        step=0.001,
        advanced=True,
    )
    noise_offset_random: bool = setting(False, "Draw the noise offset anew for each step, from 0 to the value set.", advanced=True)
    multires_iterations: int = setting(
        0, "Multiresolution noise: how many coarser layers are added. 6 to 10; 0 is off. For models that predict noise or v.", 0, 16, advanced=True
    )
    multires_discount: float = setting(0.3, "Multiresolution noise: how much weaker each coarser layer is. 0.1 to 0.4.", 0.0, 1.0, advanced=True)
    input_perturbation: float = setting(
        0.0, "Extra noise on what the model sees, but not on what it should say. 0.05 to 0.1; 0 is off.", 0.0, 1.0, step=0.001, advanced=True
    )
    input_perturbation_random: bool = setting(False, "Draw the extra noise's strength anew for each step, from 0 to the value set.", advanced=True)
    unmasked_weight: float = setting(
        0.0,
        "For images with a mask: how much the part outside counts. 0 is not at all, 1 as much as inside. Usual: 0 to 0.1.",
        0.0,
        1.0,
        advanced=True,
    )
    concept_weights: str = setting(
        "", "How much the images of a concept count, one a line: name = 0.5. Concepts that are not named count 1.", multiline=True, advanced=True
    )
    zero_terminal_snr: str = setting(
        "auto",
        "Train the last noise level on noise alone, for v prediction only. auto: as the model was made; sample pictures follow it.",
        choices=("auto", "on", "off"),
        advanced=True,
    )

    def weights_of_concepts(self) -> dict[str, float | None]:
        """From `concept_weights`; None for a line that cannot be understood, under the line itself."""
        weights: dict[str, float | None] = {}
        for line in self.concept_weights.splitlines():
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            name, separator, number = line.rpartition("=")
            try:
                weight = float(number) if separator and name.strip() else -1.0
            except ValueError:
                weight = -1.0
            if 0 <= weight <= 100:
                weights[name.strip()] = weight
            else:
                weights[line.strip()] = None
        return weights
