"""The microscope: protocols, adapters that speak them, the safety guard, deflector calibration."""
