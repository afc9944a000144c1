"""What the sampling mixture fitted with torch and the one sampled in Dr.Jit must agree on.

Apart from both, so that registering the BSDF does not wait for torch to load.
"""

UNIFORM_SHARE = 0.1  # of the defensive part; keeps value / p bounded at the horizon
# Below this cosine between camera and tilted normal the GGX lobe is left out.
MIN_TILTED_COSINE = 0.02
