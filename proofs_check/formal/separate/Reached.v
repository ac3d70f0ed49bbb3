(* The recurrence of MSM+ is reached: each of its cuts, carried out beside whatever else is stored, each step recorded
   once. *)
From Membptt Require Import Laws Policies Projection Reach Bellman.

Section Reached.
Context {size : Size}.
Notation SEP := (SEPARATE alpha).
(* slots in use, by what is stored *)
Definition U t h i := room SEP t (mk None None h i 0).

(* Storing takes what it takes, dropping gives it back. *)
Lemma U_ext : forall t h i h' i', (forall x, h x = h' x) -> (forall p, i p = i' p) -> U t h i = U t h' i'.
Proof. intros. apply room_same. split; auto. Qed.
(* a hidden state takes one slot *)
Lemma U_hidden : forall t h i q, q <= t -> h q = false -> U t (add h q) i = S (U t h i).
Proof.
  intros t h i q Hq H. pose proof (room_add_hidden SEP t (mk None None h i 0) None None 0 q Hq) as E.
  simpl in E. rewrite H in E. unfold U. simpl in E. lia.
Qed.
(* an internal state takes alpha *)
Lemma U_internal : forall t h i p, p < t -> i p = false -> U t h (add i p) = alpha + U t h i.
Proof.
  intros t h i p Hp H. pose proof (room_add_internal SEP t (mk None None h i 0) None None 0 p Hp H) as E. simpl in E.
  unfold U. lia.
Qed.
(* a dropped state gives its slot back *)
Lemma U_drop : forall t h i q, q <= t -> h q = true -> S (U t (del h q) i) = U t h i.
Proof.
  intros t h i q Hq H. rewrite <- (U_hidden t (del h q) i q); auto.
  - apply U_ext; auto. intro x. unfold add, del. cases.
  - unfold del. now rewrite Nat.eqb_refl.
Qed.

(* Streams put together; one legal action, then the rest. *)
Lemma execute_app : forall l1 l2 t m s s1, execute SEP t m s l1 = Some s1 ->
  execute SEP t m s (l1 ++ l2) = execute SEP t m s1 l2.
Proof.
  induction l1; simpl; intros l2 t m s s1 H. injection H as <-. auto.
  destruct (exec SEP t s a); [|discriminate]. destruct (room SEP t s0 <=? m); [|discriminate]. auto.
Qed.
(* one action *)
Lemma execute_act : forall t m w c h i n a w' c' h' i' n' r, step SEP t (mk w c h i n) a (mk w' c' h' i' n') ->
  U t h' i' <= m ->
  execute SEP t m (mk w c h i n) (a :: r) = execute SEP t m (mk w' c' h' i' n') r.
Proof. intros. simpl. rewrite (step_exec _ _ _ _ _ H). change (room SEP t (mk w' c' h' i' n') <= m) in H0.
apply Nat.leb_le in H0. now rewrite H0. Qed.

(* the start of a part can be restored *)
Lemma restore : forall t w h i n a, h a || output i a = true ->
  step SEP t (mk w None h i n) (Restore a) (mk (Some a) None h i n).
Proof. intros. constructor. unfold available. now rewrite H. Qed.

(* the core's step is the next to go backward *)
Lemma backward : forall t w h i n p, n = S p -> step SEP t (mk w (Some p) h i n) (Backpropagate p) (mk None None h i p).
Proof. intros. subst. constructor. Qed.

(* run from a to the step before b, and record it *)
Lemma run_to : forall t m h i n w a b r, a <= b < t -> h a || output i a = true -> U t h i <= m ->
  exists l, execute SEP t m (mk w None h i n) (l ++ r) = execute SEP t m (mk (Some (S b)) (Some b) h i n) r /\
    cost l = S b - a /\ recorded l = 1 /\ (forall q, ~ In (DropHidden q) l).
Proof.
  intros t m h i n w a b r H E HU. destruct (Nat.eq_dec a b) as [->|N].
  - exists [Restore b; Record b]. split; [|split; [cbn [cost span fst snd]; lia | split; [reflexivity | simpl;
      intuition discriminate]]]. simpl app.
    rewrite (execute_act _ _ _ _ _ _ _ _ (Some b) None h i n),
      (execute_act _ _ _ _ _ _ _ _ (Some (S b)) (Some b) h i n); auto using restore.
    constructor. lia.
  - exists [Restore a; Advance a b; Record b]. split; [|split; [cbn [cost span fst snd]; lia | split;
      [reflexivity | simpl; intuition discriminate]]]. simpl app.
    rewrite (execute_act _ _ _ _ _ _ _ _ (Some a) None h i n), (execute_act _ _ _ _ _ _ _ _ (Some b) None h i n),
      (execute_act _ _ _ _ _ _ _ _ (Some (S b)) (Some b) h i n); auto using restore; constructor; lia.
Qed.

(* The claim for a part: steps a .. a+k-1, m slots with the start's own, within N slots in all. Afterwards all is as
   before, but for the start, which is dropped where it is the part's own. *)
Definition done (keep : bool) k m := forall a t N w h i, a + k <= t ->
  (forall x, a < x <= a + k -> h x = false) -> (forall p, a <= p < a + k -> i p = false) ->
  (if keep then h a || output i a = true else h a = true) -> U t h i + (m - 1) <= N ->
  exists l w' h' i', execute SEP t N (mk w None h i (a + k)) l = Some (mk w' None h' i' a) /\
    cost l = V keep k m /\ recorded l = k /\
    (forall x, h' x = if negb keep && (x =? a) then false else h x) /\ (forall p, i' p = i p) /\
    (forall q, In (DropHidden q) l -> a < q \/ (q = a /\ keep = false)).

(* no steps: drop the start, if it is our own *)
Lemma done_none : forall keep m, done keep 0 m.
Proof.
  intros keep m a t N w h i Ht Hh Hi Hs HU. rewrite Nat.add_0_r. destruct keep.
  - exists [], w, h, i. simpl. repeat split; auto. tauto.
  - exists [DropHidden a], w, (del h a), i. pose proof (U_drop t h i a ltac:(lia) Hs).
    rewrite (execute_act _ _ _ _ _ _ _ _ w None (del h a) i a); [|constructor; auto | lia].
    repeat split; auto. intros q [Q|[]]. injection Q as <-. auto.
Qed.

(* which states a stream drops *)
Lemma drops_app : forall l1 l2 q, In (DropHidden q) (l1 ++ l2) -> (forall q, ~ In (DropHidden q) l1) ->
  In (DropHidden q) l2.
Proof. intros l1 l2 q H N. apply in_app_iff in H. destruct H; auto. destruct (N q H). Qed.

(* LAST: run to the end, take the last step backward, then the other k - 1 *)
Lemma done_last : forall keep k m, 1 <= k -> done keep (k - 1) m -> V keep k m = k + V keep (k - 1) m -> done keep k m.
Proof.
  intros keep k m Hk D E a t N w h i Ht Hh Hi Hs HU.
  destruct (D a t N None h i) as (l & w' & h' & i' & P & C & K & A & B & G); auto; try lia.
  { intros; apply Hh; lia. } { intros; apply Hi; lia. }
  destruct (run_to t N h i (a + k) w a (a + k - 1) (Backpropagate (a + k - 1) :: l)) as (l0 & P0 & C0 & K0 & G0);
    try lia.
  { destruct keep; auto. rewrite Hs. auto. }
  exists (l0 ++ Backpropagate (a + k - 1) :: l), w', h', i'. rewrite P0, cost_app, recorded_app.
  cbn [cost span fst snd recorded].
  split; [|repeat split; auto; try lia].
  - rewrite (execute_act _ _ _ _ _ _ _ _ None None h i (a + (k - 1))); [exact P| |lia].
    replace (a + (k - 1)) with (a + k - 1) by lia. apply backward. lia.
  - intros q Q. apply drops_app in Q; auto. destruct Q as [Q|Q]; [discriminate|auto].
Qed.

(* HIDDEN: store the state after y steps; the right part owns it *)
Lemma done_hidden : forall keep k m y, 2 <= m -> 1 <= y < k -> done false (k - y) (m - 1) -> done keep y m ->
  V keep k m = y + V false (k - y) (m - 1) + V keep y m -> done keep k m.
Proof.
  intros keep k m y Hm Hy D1 D2 EV a t N w h i Ht Hh Hi Hs HU. remember (a + y) as b eqn:Eb.
  assert (Uy : U t (add h b) i = S (U t h i)). { apply U_hidden; [lia|]. apply Hh. lia. }
  destruct (D1 b t N (Some b) (add h b) i) as (l1 & w1 & h1 & i1 & P1 & C1 & K1 & A1 & B1 & G1); try lia.
  { intros x Hx. unfold add. rewrite Hh by lia. cases. } { intros; apply Hi; lia. }
  { unfold add. rewrite Nat.eqb_refl. auto. }
  assert (A1' : forall x, h1 x = h x).
  { intro x. rewrite A1. unfold add. simpl. destruct (Nat.eqb_spec x b) as [->|]; auto. rewrite Hh; auto. lia. }
  destruct (D2 a t N w1 h1 i1) as (l2 & w2 & h2 & i2 & P2 & C2 & K2 & A2 & B2 & G2); try lia.
  { intros x Hx. rewrite A1'. apply Hh; lia. } { intros; rewrite B1; apply Hi; lia. }
  { destruct keep; rewrite A1'; auto. rewrite <- Hs. f_equal. unfold output. destruct a; auto. }
  { rewrite (U_ext t h1 i1 h i); auto. }
  exists (Restore a :: Advance a b :: StoreHidden b :: l1 ++ l2), w2, h2, i2. repeat split.
  - rewrite (execute_act _ _ _ _ _ _ _ _ (Some a) None h i (a + k)), (execute_act _ _ _ _ _ _ _ _ (Some b) None h i (a
      + k)),
      (execute_act _ _ _ _ _ _ _ _ (Some b) None (add h b) i (a + k)); try lia.
    + rewrite (execute_app l1 l2 _ _ _ (mk w1 None h1 i1 b)); [rewrite Eb; exact P2|]. rewrite <- P1. f_equal.
      f_equal. lia.
    + constructor; auto. apply Hh. lia.
    + constructor; lia.
    + apply restore. destruct keep; auto. rewrite Hs. auto.
  - cbn [cost span fst snd]. rewrite cost_app, C1, C2, EV. lia.
  - cbn [recorded]. rewrite recorded_app. lia.
  - intro x. rewrite A2, A1'. auto.
  - intro p. rewrite B2, B1. auto.
  - intros q Q. repeat (destruct Q as [Q|Q]; [discriminate|]). apply in_app_iff in Q. destruct Q as [Q|Q]; [|auto].
    apply G1 in Q. left. lia.
Qed.

(* INTERNAL: store the internal state of step y; the right part starts from its output, which stays *)
Lemma done_internal : forall keep k m y, alpha < m -> 1 <= y < k -> done true (k - y) (m - alpha) ->
  done keep (y - 1) m ->
  V keep k m = y + V true (k - y) (m - alpha) + V keep (y - 1) m -> done keep k m.
Proof.
  intros keep k m y Hm Hy D1 D2 EV a t N w h i Ht Hh Hi Hs HU. remember (a + y - 1) as p eqn:Ep.
  assert (Ip : i p = false) by (apply Hi; lia).
  assert (Uy : U t h (add i p) = alpha + U t h i). { apply U_internal; auto. lia. }
  assert (Sp : S p = a + y) by lia.
  destruct (D1 (S p) t N (Some (S p)) h (add i p)) as (l1 & w1 & h1 & i1 & P1 & C1 & K1 & A1 & B1 & G1); try lia.
  { intros x Hx. apply Hh; lia. } { intros q Hq. unfold add. rewrite Hi by lia. cases. }
  { apply orb_true_intro. right. simpl. unfold add. now rewrite Nat.eqb_refl. }
  simpl in A1.
  assert (Bi : forall q, del i1 p q = i q). { intro q. unfold del. rewrite B1. unfold add.
    destruct (Nat.eqb_spec q p) as [->|]; auto. }
  destruct (D2 a t N None h1 (del i1 p)) as (l2 & w2 & h2 & i2 & P2 & C2 & K2 & A2 & B2 & G2); try lia.
  { intros x Hx. rewrite A1. apply Hh; lia. } { intros; rewrite Bi; apply Hi; lia. }
  { destruct keep; rewrite A1; auto. rewrite <- Hs. f_equal. unfold output. destruct a; auto. }
  { rewrite (U_ext t h1 (del i1 p) h i); auto. }
  destruct (run_to t N h i (a + k) w a p (StoreInternal p :: l1 ++ LoadInternal p :: Backpropagate p :: l2)) as (l0 &
    P0 & C0 & K0 & G0); try lia.
  { destruct keep; auto. rewrite Hs. auto. }
  assert (U1 : U t h1 (del i1 p) <= N) by (rewrite (U_ext t h1 (del i1 p) h i); auto; lia).
  exists (l0 ++ StoreInternal p :: l1 ++ LoadInternal p :: Backpropagate p :: l2), w2, h2, i2. repeat split.
  - rewrite P0, (execute_act _ _ _ _ _ _ _ _ (Some (S p)) None h (add i p) (a + k)); [|constructor; auto | lia].
    rewrite (execute_app l1 _ _ _ _ (mk w1 None h1 i1 (S p))).
    + rewrite (execute_act _ _ _ _ _ _ _ _ (Some (S p)) (Some p) h1 (del i1 p) (S p)); auto.
      * rewrite (execute_act _ _ _ _ _ _ _ _ None None h1 (del i1 p) (a + (y - 1))); auto.
        replace (a + (y - 1)) with p by lia. constructor.
      * constructor. rewrite B1. unfold add. now rewrite Nat.eqb_refl.
    + replace (a + k) with (S p + (k - y)) by lia. exact P1.
  - rewrite cost_app. cbn [cost span fst snd]. rewrite cost_app. cbn [cost span fst snd]. lia.
  - rewrite recorded_app. cbn [recorded]. rewrite recorded_app. cbn [recorded]. lia.
  - intro x. rewrite A2, A1. auto.
  - intro q. rewrite B2. apply Bi.
  - intros q Q. apply drops_app in Q; auto. destruct Q as [Q|Q]; [discriminate|]. apply in_app_iff in Q.
    destruct Q as [Q|Q].
    + apply G1 in Q. left. lia.
    + repeat (destruct Q as [Q|Q]; [discriminate|]). auto.
Qed.

(* RELEASE: give up the start, keep the internal state of the first step instead *)
Lemma done_release : forall k m, alpha <= m -> 1 <= k -> done true (k - 1) (m - (alpha - 1)) ->
  V false k m = 1 + V true (k - 1) (m - (alpha - 1)) -> done false k m.
Proof.
  intros k m Hm Hk D EV a t N w h i Ht Hh Hi Hs HU. pose proof alpha2.
  set (h0 := del h a). set (i0 := add i a). assert (Ia : i a = false) by (apply Hi; lia).
  assert (U0 : S (U t h0 i) = U t h i). { unfold h0. apply U_drop; auto. lia. }
  assert (U1 : U t h0 i0 = alpha + U t h0 i). { unfold i0. apply U_internal; auto. lia. }
  destruct (D (S a) t N (Some (S a)) h0 i0) as (l & w1 & h1 & i1 & P1 & C1 & K1 & A1 & B1 & G1); try lia.
  { intros x Hx. unfold h0, del. rewrite Hh by lia. cases. } { intros q Hq. unfold i0, add. rewrite Hi by lia. cases. }
  { unfold i0, add. simpl. rewrite Nat.eqb_refl. apply orb_true_r. }
  simpl in A1.
  assert (Bi : forall q, del i1 a q = i q). { intro q. unfold del. rewrite B1. unfold i0,
    add. destruct (Nat.eqb_spec q a) as [->|]; auto. }
  destruct (run_to t N h i (a + k) w a a (DropHidden a :: StoreInternal a :: l ++ [LoadInternal a;
    Backpropagate a])) as (l0 & P0 & C0 & K0 & G0); try lia.
  { rewrite Hs. auto. }
  assert (U2 : U t h1 (del i1 a) <= N) by (rewrite (U_ext t h1 (del i1 a) h0 i); auto; lia).
  exists (l0 ++ DropHidden a :: StoreInternal a :: l ++ [LoadInternal a; Backpropagate a]), None, h1, (del i1 a).
  repeat split; auto.
  - rewrite P0, (execute_act _ _ _ _ _ _ _ _ (Some (S a)) (Some a) h0 i (a + k)); [|constructor; auto | lia].
    rewrite (execute_act _ _ _ _ _ _ _ _ (Some (S a)) None h0 i0 (a + k)); [|constructor; auto | lia].
    rewrite (execute_app l _ _ _ _ (mk w1 None h1 i1 (S a))).
    + rewrite (execute_act _ _ _ _ _ _ _ _ (Some (S a)) (Some a) h1 (del i1 a) (S a)); auto.
      * rewrite (execute_act _ _ _ _ _ _ _ _ None None h1 (del i1 a) a); auto. constructor.
      * constructor. rewrite B1. unfold i0, add. now rewrite Nat.eqb_refl.
    + replace (a + k) with (S a + (k - 1)) by lia. exact P1.
  - rewrite cost_app. cbn [cost span fst snd]. rewrite cost_app. cbn [cost span fst snd]. lia.
  - rewrite recorded_app. cbn [recorded]. rewrite recorded_app. cbn [recorded]. lia.
  - intros q Q. apply drops_app in Q; auto. destruct Q as [Q|[Q|Q]]; [injection Q as <-; auto | discriminate |].
    apply in_app_iff in Q. destruct Q as [Q|[Q|[Q|[]]]]; try discriminate. apply G1 in Q. left. lia.
Qed.

(* Every part is done at its value, by the cut that gives it. *)
Theorem all_done : forall k m keep, 1 <= m -> done keep k m.
Proof.
  induction k as [k IH] using lt_wf_ind. intros m keep Hm. pose proof alpha2.
  destruct (le_lt_dec k 1) as [K|K].
  { destruct k as [|[|k]]; [apply done_none | | lia]. apply done_last; auto; apply done_none. }
  destruct (Nat.eq_dec m 1) as [->|N].
  { apply done_last; try lia. apply IH; lia.
    destruct k as [|k]; [lia|]. rewrite V_last_one. replace (S k - 1) with k by lia. auto. }
  pose proof (V_eq keep k m K N) as E. destruct (Nat.leb_spec (alpha * k) m) as [A|A].
  - apply done_internal with 1; try nia. { apply IH; nia. } { apply done_none. }
    rewrite E. assert (V true (k - 1) (m - alpha) = k - 1); [|simpl Nat.sub; rewrite V_none; lia].
    destruct (Nat.eq_dec k 2) as [->|K2]. { rewrite V_1. auto. }
    rewrite V_eq by nia. destruct (Nat.leb_spec (alpha * (k - 1)) (m - alpha)); auto. nia.
  - destruct (least_of_in (cuts keep k m) (k + V keep (k - 1) m)) as [L|L].
    + apply done_last; auto; try lia. apply IH; lia.
    + rewrite <- E in L. apply cuts_in in L; auto. destruct L as [(y & Y & L)|[(y & Y & B & D & L)|(-> & B & L)]].
      * apply done_hidden with y; auto; try lia; apply IH; lia.
      * destruct (Nat.eq_dec y k) as [->|Q].
        { rewrite Nat.sub_diag, V_none in L. apply done_last; [lia | apply IH; lia | lia]. }
        destruct D as [D|D]; [lia|]. apply done_internal with y; auto; try lia; apply IH; lia.
      * apply done_release; auto; try lia. apply IH; lia.
Qed.

(* For the whole: some complete schedule costs P(t, m), and one that keeps the start to the end costs R(t, m). *)
Lemma start_alone : forall t, U t (fun x => x =? 0) (fun _ => false) = 1.
Proof.
  intro t. unfold U. rewrite room_sumr, (sumr_at _ 0 0 (S t)), !sumr_zero; try lia; auto.
  intros x Hx. unfold weight. simpl. destruct x; [lia|]. reflexivity.
Qed.
(* nothing stored takes nothing *)
Lemma nothing_stored : forall t w n h i, (forall x, h x = false) -> (forall p, i p = false) ->
  room SEP t (mk w None h i n) = 0.
Proof.
  intros. rewrite room_sumr. apply sumr_zero. intros x _. unfold weight. simpl. rewrite H.
  destruct x; simpl; rewrite ?H0; auto.
Qed.
(* P *)
Theorem separate_reached : forall t m, 1 <= m ->
  exists l, complete SEP m t l = true /\ cost l = V false t m /\ recorded l = t.
Proof.
  intros t m Hm. destruct (all_done t m false Hm 0 t m (Some 0) (fun x => x =? 0) (fun _ => false)) as (l & w & h & i &
    P & C & K & A & B & _); auto.
  - intros x Hx. cases.
  - rewrite start_alone. lia.
  - exists l. repeat split; auto. unfold complete. change (init 0 t) with (mk (Some 0) None (fun x =>
      x =? 0) (fun _ => false) (0 + t)).
    rewrite P. simpl. rewrite nothing_stored; auto. intro x. rewrite A. simpl. cases.
Qed.
(* R *)
Theorem separate_kept_reached : forall t m, 1 <= m ->
  exists l, legal SEP m t l = true /\ ~ In (DropHidden 0) l /\ cost l = V true t m /\ recorded l = t.
Proof.
  intros t m Hm. destruct (all_done t m true Hm 0 t m (Some 0) (fun x => x =? 0) (fun _ => false)) as (l & w & h & i &
    P & C & K & A & B & G); auto.
  - intros x Hx. cases.
  - rewrite start_alone. lia.
  - exists l. repeat split; auto.
    + unfold legal. change (init 0 t) with (mk (Some 0) None (fun x => x =? 0) (fun _ => false) (0 + t)). rewrite P.
      reflexivity.
    + intro Q. apply G in Q. destruct Q as [Q|[_ Q]]; [lia | discriminate].
Qed.
End Reached.
