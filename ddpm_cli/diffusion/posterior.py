"""q(x_s | x_t, x0) for s < t, the distribution of ancestral sampling."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Variance = Literal["beta", "beta_tilde", "learned"]


class Posterior(NamedTuple):
    """mean = of_x_t * x_t + of_x0 * x0, and the two variances of Ho et al. 2020, section 3.2.

    `beta_tilde` is the variance of q(x_s | x_t, x0) itself, `beta` that of q(x_t | x_s).
    """

    of_x_t: Tensor
    of_x0: Tensor
    beta_tilde: Tensor
    beta: Tensor

    def log_variance(self, kind: Variance, fraction: Tensor | None = None) -> Tensor:
        """ln of the variance `kind`; `learned` is fraction ln beta + (1 - fraction) ln beta_tilde.

        The latter is Nichol & Dhariwal 2021, eq. 15. At s = 0, where beta_tilde is 0, all kinds are ln beta.

        Raises:
            ValueError: `kind` is `learned`, but there is no `fraction`.
        """
        high = torch.log(self.beta)
        low = torch.log(torch.where(self.beta_tilde > 0, self.beta_tilde, self.beta))
        if kind == "learned":
            if fraction is None:
                raise ValueError(
                    "variance: learned needs a network that was trained with objective.learned_variance=true"
                )
            return fraction * high + (1 - fraction) * low
        return high if kind == "beta" else low


def posterior(alpha_t: Tensor, sigma_t: Tensor, alpha_s: Tensor, sigma_s: Tensor) -> Posterior:
    """Coefficients of q(x_s | x_t, x0) (Kingma et al. 2021, appendix A; for s = t - 1/T, Ho et al. 2020, eq. 6-7).

    With alpha_ts = alpha_t / alpha_s and beta = sigma_t^2 - alpha_ts^2 sigma_s^2:
    mean = alpha_ts sigma_s^2 / sigma_t^2 x_t + alpha_s beta / sigma_t^2 x0, variance = beta sigma_s^2 / sigma_t^2.
    """
    alpha_ts = alpha_t / alpha_s
    beta = sigma_t**2 - alpha_ts**2 * sigma_s**2
    ratio = sigma_s**2 / sigma_t**2
    return Posterior(alpha_ts * ratio, alpha_s * beta / sigma_t**2, beta * ratio, beta)
