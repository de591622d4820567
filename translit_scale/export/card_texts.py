"""Texts of the model card that are the same for all models."""

FILL = """
from transformers import AutoModelForMaskedLM, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForMaskedLM.from_pretrained(folder)
"""

EMBED = """
import torch
from transformers import AutoModel, AutoTokenizer

folder = "."  # this folder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModel.from_pretrained(folder{without_pooler}).eval()
batch = tokenizer(["one sentence", "another sentence"], padding=True, truncation=True, return_tensors="pt")
with torch.inference_mode():
    states = model(**batch, output_hidden_states=True).hidden_states[{layer}]
mask = batch["attention_mask"].unsqueeze(-1)
embeddings = (states * mask).sum(dim=1) / mask.sum(dim=1)
"""

SENTENCE_TRANSFORMERS = """
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(".")  # this folder
embeddings = model.encode(["one sentence", "another sentence"])
"""

LIMITS = """
- The model was trained on text that was cleaned automatically. It reproduces the errors and biases of that text,
  and it may be of little use for languages of which it saw few pairs.
- A trained model can reveal parts of its training text, personal data included.
- Longer sentences than the tokenizer's `model_max_length` are cut when `truncation=True` is given, and are an error
  without it.
- This training used neither translations nor pairs rated by people.
"""

NOT_CONTRASTED = """
- No objective of this training compared sentences: the embeddings are hidden states of a masked language model.
"""

CITATION = """
@inproceedings{{liu-etal-2025-transliterations,
  title = "How Transliterations Improve Crosslingual Alignment",
  author = "Liu, Yihong and Wang, Mingyang and Kargaran, Amir Hossein and ImaniGooghari, Ayyoob and Xhelili, Orgest and
    Ye, Haotian and Ma, Chunlan and Yvon, Fran{{\\c{{c}}}}ois and Sch{{\\"u}}tze, Hinrich",
  booktitle = "Proceedings of the 31st International Conference on Computational Linguistics",
  year = "2025",
  address = "Abu Dhabi, UAE",
  url = "https://aclanthology.org/2025.coling-main.165",
}}
@inproceedings{{xhelili-etal-2024-breaking,
  title = "Breaking the Script Barrier in Multilingual Pre-Trained Language Models with Transliteration-Based
    Post-Training Alignment",
  author = "Xhelili, Orgest and Liu, Yihong and Sch{{\\"u}}tze, Hinrich",
  booktitle = "Findings of the Association for Computational Linguistics: EMNLP 2024",
  year = "2024",
  address = "Miami, Florida, USA",
  pages = "11283--11296",
  url = "https://arxiv.org/abs/2406.19759",
}}
@misc{{translit-scale,
  title = "translit-scale: large-batch training of multilingual encoders on sentences and their transliterations",
  note = "Version {version}",
}}
"""
