"""From rate networks to spiking networks: `convert`, `calibrate` on data, `diagnose` what was lost."""

from jsnn.conversion.calibration import calibrate
from jsnn.conversion.converting import convert
from jsnn.conversion.diagnosis import ActivationDiagnosis, Diagnosis, Response, diagnose, respond
from jsnn.conversion.network import Converted
from jsnn.conversion.pooling import SpikingMaxPool
from jsnn.conversion.quantized import ClipFloorReLU, NoisyReLU, clip_floor_relu, clip_relu
from jsnn.conversion.report import Report, Row

__all__ = [
    "ActivationDiagnosis",
    "ClipFloorReLU",
    "Converted",
    "Diagnosis",
    "NoisyReLU",
    "Report",
    "Response",
    "Row",
    "SpikingMaxPool",
    "calibrate",
    "clip_floor_relu",
    "clip_relu",
    "convert",
    "diagnose",
    "respond",
]
