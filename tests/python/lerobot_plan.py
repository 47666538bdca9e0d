"""Plans with exported policies in LeRobot itself, from given observations and noise.

    python lerobot_plan.py (FOLDER INPUT.safetensors OUTPUT.safetensors)...

INPUT holds `observation` [1, To, Do], the state and then the environment's, in physical units, and `noise` [1, Tp, Da];
OUTPUT gets `actions` [1, Ta, Da], in physical units again.
"""

import sys

import torch
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.processor import PolicyProcessorPipeline
from lerobot.processor.converters import policy_action_to_transition, transition_to_policy_action
from safetensors.torch import load_file, save_file

torch.set_num_threads(1)


def plan(folder, source, target):
    policy = DiffusionPolicy.from_pretrained(folder, local_files_only=True)
    policy.eval()
    before = PolicyProcessorPipeline.from_pretrained(folder, config_filename="policy_preprocessor.json")
    after = PolicyProcessorPipeline.from_pretrained(
        folder,
        config_filename="policy_postprocessor.json",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    given = load_file(source)
    state = policy.config.robot_state_feature.shape[0]
    observation = given["observation"]
    batch = before(
        {
            "observation.state": observation[..., :state],
            "observation.environment_state": observation[..., state:],
        }
    )
    with torch.no_grad():
        actions = policy.diffusion.generate_actions(batch, noise=given["noise"])
    save_file({"actions": after(actions).contiguous()}, target)


arguments = sys.argv[1:]
for first in range(0, len(arguments), 3):
    plan(*arguments[first : first + 3])
