"""From rate networks to spiking networks: `convert`, `calibrate` on data, `diagnose` what was lost."""

from jsnn.conversion.calibrate import calibrate
from jsnn.conversion.convert import convert
from jsnn.conversion.diagnose import ActivationDiagnosis, Diagnosis, Response, diagnose, respond
from jsnn.conversion.network import Converted
from jsnn.conversion.report import Report, Row

__all__ = [
    "ActivationDiagnosis",
    "Converted",
    "Diagnosis",
    "Report",
    "Response",
    "Row",
    "calibrate",
    "convert",
    "diagnose",
    "respond",
]
