"""The mathematics of low-rank adaptation as pure functions of tensors.

Shape legend, in the names of all files here: I input width, O output width, R rank, T tokens
(any number of leading dimensions), V vocabulary, K kernel positions, G groups, N adapted slices.
`a_RI` is lora_A, `b_OR` is lora_B, `s` is the scale.

The update of every layer is dW = s * B @ A (LoRA, arXiv 2106.09685, section 4.1). With I = O = 768
and R = 8 it has 12,288 numbers where the weight has 589,824.
"""
