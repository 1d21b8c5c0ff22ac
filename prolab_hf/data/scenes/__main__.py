"""`python -m prolab_hf.data.scenes FOLDER` draws a folder to practice in."""

import sys

from prolab_hf.data.scenes.practice import write_practice_folder

if len(sys.argv) != 2:
    sys.exit("python -m prolab_hf.data.scenes FOLDER: says where the practice folder's files are drawn to.")
try:
    write_practice_folder(sys.argv[1])
except OSError as error:
    sys.exit(str(error))
sys.stdout.write(f"Drawn into {sys.argv[1]}: my_data, photos, street.jpg, words.json, classes.txt\n")
