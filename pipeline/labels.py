"""The seven emotions, in the order of the paper's label ids."""

LABELS = ("neutral", "angry", "happy", "surprise", "sad", "fear", "disgust")
LABELS_KO = ("중립", "분노", "기쁨", "놀람", "슬픔", "공포", "혐오")
