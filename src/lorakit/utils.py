"""loralib's functions under the name of its module, for programs that say `lora.utils`."""

from lorakit.layers.state import lora_state_dict, mark_only_lora_as_trainable

__all__ = ["lora_state_dict", "mark_only_lora_as_trainable"]
