/** The pieces of a SentencePiece model, from `tokenizer.json`. */

/** Content of `tokenizer.json`: the text, score and type of each id. */
export interface VocabularyFile {
    kind: "unigram" | "bpe";
    pieces: string[];
    scores: number[];
    /** `n` normal, `b` byte, `c` control or unknown, for each id. */
    types: string;
}

/** Find ids by their texts. */
export class Vocabulary {
    /** Ids of normal pieces. */
    private readonly ids = new Map<string, number>();
    /** Ids of the 256 bytes. */
    private readonly bytes: number[] = [];
    /** Characters of the longest piece. */
    readonly longest: number;
    readonly lowestScore: number;

    constructor(readonly file: VocabularyFile) {
        file.pieces.forEach((piece, id) => {
            if (file.types[id] === "n") this.ids.set(piece, id);
            if (file.types[id] === "b") this.bytes[parseInt(piece.slice(3, 5), 16)] = id;
        });
        const pieces = [...this.ids.keys()];
        this.longest = pieces.reduce((longest, piece) => Math.max(longest, Array.from(piece).length), 0);
        this.lowestScore = pieces.reduce((lowest, piece) => Math.min(lowest, this.score(piece)), Infinity);
    }

    has(piece: string): boolean {
        return this.ids.has(piece);
    }

    /** Return the score of a piece; higher is more frequent. */
    score(piece: string): number {
        return this.file.scores[this.ids.get(piece) as number];
    }

    /** Return the id of a piece, or those of its UTF-8 bytes if it is not in the vocabulary. */
    encode(piece: string): number[] {
        const id = this.ids.get(piece);
        return id === undefined ? Array.from(new TextEncoder().encode(piece), (byte) => this.bytes[byte]) : [id];
    }

    /** Return the value of a byte piece, or undefined for other ids. */
    byteOf(id: number): number | undefined {
        return this.file.types[id] === "b" ? parseInt(this.file.pieces[id].slice(3, 5), 16) : undefined;
    }
}
