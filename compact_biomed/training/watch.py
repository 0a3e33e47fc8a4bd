"""What is seen during training: a progress bar or lines, and Ctrl-C that saves."""

import signal
import sys
from types import FrameType

from transformers import TrainerCallback

from compact_biomed.console import count, progress, say


class ProgressWatch(TrainerCallback):
    """A bar with loss and speed on a terminal; a line each logging step elsewhere."""

    def __init__(self) -> None:
        self.bar = None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        if state.is_world_process_zero:
            self.bar = progress(total=state.max_steps, initial=state.global_step, desc="training", unit=" steps")

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.update(1)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        if self.bar is None or "loss" not in (logs or {}):
            return
        speed = f"{logs['tokens_per_second']:,.0f} tokens/s"
        if "share_of_matmul_ceiling" in logs:
            speed += f" ({logs['share_of_matmul_ceiling']:.0%} of ceiling)"
        text = f"loss {logs['loss']:.3f}, {speed}"
        if self.bar.disable:
            say(f"  step {state.global_step:>6,} of {state.max_steps:,}: {text}, {count(logs['tokens'])} tokens")
        else:
            self.bar.set_postfix_str(text)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        if self.bar is not None:
            self.bar.close()


class SaveOnSignal(TrainerCallback):
    """The first Ctrl-C (or SIGTERM) ends the run after the current step, with a checkpoint; a second at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, object] = {}

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("\nfinishing this step, then saving (once more to stop at once) ...", file=sys.stderr, flush=True)

    def on_step_end(self, args, state, control, **kwargs):
        if self.asked:
            control.should_save = control.should_training_stop = True
        return control

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
