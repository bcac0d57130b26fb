"""Virtual tokens in a model: where they stand, what they hold, and what the model makes of them.

    p p x x x i i y y        p prefix, x prompt, i infix, y completion

The model is called as before. At the border of its backbone the inputs become longer by the virtual
tokens (`insertion`), and its outputs shorter again; a `layout` says where each token then lies.
"""
