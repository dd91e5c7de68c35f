"""What VQA models share: questions, answers, the CNN."""
