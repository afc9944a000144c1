"""The virtual gonioreflectometer: PBR maps of a material -> the video a moving camera and light would see."""

from gonio.scan.measure import ScanSettings, photograph, scan
from gonio.scan.scene import SampleScene

__all__ = ["SampleScene", "ScanSettings", "photograph", "scan"]
